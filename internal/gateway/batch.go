package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// batchTypes are the names under which JSON lines are sent.
var batchTypes = []string{"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}

// batchAnswer is what became of the lines of a batch that were all accepted.
type batchAnswer struct {
	Taken   int          `json:"taken"` // lines that need not be sent again
	Results []lineResult `json:"results"`

	strict bool // misspelt members are refused
}

// lineResult is what became of one line: a turn that was accepted, or the problem with it.
type lineResult struct {
	Line     int       `json:"line"`
	Status   int       `json:"status"`
	Turn     *accepted `json:"turn,omitempty"`
	Problem  *problem  `json:"problem,omitempty"`
	Warnings []warning `json:"warnings,omitempty"` // about a turn that was accepted

	receipt *publisher.Receipt
}

// postBatch takes in turns of any sessions, one a line. A line that is no acceptable turn
// does not keep the others from being taken; where it has to stop it says how far it came.
func (g *Gateway) postBatch(w http.ResponseWriter, r *http.Request, _ place) error {
	strict, err := strictOf(r)
	if err != nil {
		return err
	}
	if err := checkBatch(w, r); err != nil {
		return err
	}
	b := &batchAnswer{Results: []lineResult{}, strict: strict}
	stopped, bad := g.takeLines(w, r, b)
	status := http.StatusAccepted
	if wait := g.wait(r.Header); wait > 0 && stopped == nil {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
		var err error
		if status, err = g.waitAll(r.Context(), b, wait); err != nil {
			stopped = problemOf(err)
		}
	}
	if stopped == nil && bad > 0 {
		stopped = newProblem(http.StatusUnprocessableEntity, "batch", "Some turns were refused",
			fmt.Sprintf("%d of the turns %s refused, see %s; the others were accepted.", bad, plural.Were(bad), plural.Verb(bad, "its result", "their results")))
	}
	for i := range b.Results {
		g.metrics.lines.WithLabelValues(strconv.Itoa(b.Results[i].Status)).Inc()
	}
	if stopped != nil {
		stopped.Taken, stopped.Results = &b.Taken, b.Results
		return stopped
	}
	return writeJSON(w, status, b)
}

// takeLines takes lines in until they end or it has to stop, and returns why, and how
// many it refused.
func (g *Gateway) takeLines(w http.ResponseWriter, r *http.Request, b *batchAnswer) (stopped *problem, bad int) {
	held := g.cfg.BodyMemory.Hold()
	defer held.Release()
	lines := &lineReader{from: bufio.NewReader(http.MaxBytesReader(w, r.Body, g.cfg.MaxBatchBytes)), most: int(g.cfg.maxBody()), held: held}
	for n := 1; lines.next(r.Context()); n++ {
		line := lines.line
		if n == 1 { // the body may be a file that an editor wrote
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if line = bytes.TrimSpace(line); len(line) > 0 || lines.long {
			if len(b.Results) == g.cfg.MaxBatchTurns {
				return newProblem(http.StatusRequestEntityTooLarge, "too-large", "Too large",
					fmt.Sprintf("A batch is at most %d turns long. Send the rest as another one.", g.cfg.MaxBatchTurns)), bad
			}
			var receipt *publisher.Receipt
			var warnings []warning
			err := error(tooLarge(int64(lines.most)))
			if !lines.long {
				receipt, warnings, err = g.takeLine(r.Context(), line, b.strict)
			}
			switch p := (*problem)(nil); {
			case err == nil:
				b.Results = append(b.Results, lineResult{Line: n, Status: http.StatusAccepted, Turn: acceptedOf(receipt, publisher.Buffered), Warnings: warnings, receipt: receipt})
			default:
				if p = problemOf(err); p.Status >= http.StatusInternalServerError { // of the gateway, not of the line
					return p, bad
				}
				b.Results = append(b.Results, lineResult{Line: n, Status: p.Status, Problem: p})
				bad++
			}
		}
		b.Taken = n
	}
	var large *http.MaxBytesError
	switch err := lines.err; {
	case err == nil && b.Taken == 0:
		return badRequest("", "The body has no lines."), bad
	case err == nil:
		return nil, bad
	case errors.As(err, &large):
		return newProblem(http.StatusRequestEntityTooLarge, "too-large", "Too large",
			fmt.Sprintf("A batch is at most %d bytes long. Send the rest as another one.", g.cfg.MaxBatchBytes)), bad
	default:
		return problemOf(g.bodyProblem(err)), bad
	}
}

// lineReader reads lines in bounded memory. What a broken body ends with is no line.
type lineReader struct {
	from *bufio.Reader
	most int
	held *transcript.Held // for line
	line []byte           // until the next one; of one that is too long, its beginning
	long bool             // the line is longer than a turn may be
	err  error            // why there is no next one; nil at the end
}

func (l *lineReader) next(ctx context.Context) bool {
	l.line, l.long = l.line[:0], false
	for l.err == nil {
		part, err := l.from.ReadSlice('\n')
		if !l.long {
			if l.err = l.room(ctx, len(part)); l.err != nil {
				return false
			}
			l.line = append(l.line, part...)
			l.long = len(bytes.TrimRight(l.line, "\r\n")) > l.most
		}
		switch {
		case err == nil:
			return true
		case errors.Is(err, io.EOF):
			return len(l.line) > 0
		case !errors.Is(err, bufio.ErrBufferFull):
			l.err = err
		}
	}
	return false
}

// room makes room for n bytes more of a line.
func (l *lineReader) room(ctx context.Context, n int) error {
	if len(l.line)+n <= cap(l.line) {
		return nil
	}
	more := max(n, cap(l.line))
	if err := hold(ctx, l.held, cap(l.line), more); err != nil {
		return err
	}
	l.line = slices.Grow(l.line, more)
	return nil
}

// takeLine publishes the turn of a line. The line is not kept.
func (g *Gateway) takeLine(ctx context.Context, line []byte, strict bool) (*publisher.Receipt, []warning, error) {
	draft, err := transcript.ParseDraft(line)
	if err != nil {
		return nil, nil, err
	}
	warnings, err := misspelt(&draft, strict)
	if err != nil {
		return nil, nil, err
	}
	if err := g.room(&draft); err != nil {
		return nil, nil, err
	}
	receipt, err := g.cfg.Publisher.PublishDraft(ctx, &draft)
	return receipt, warnings, err
}

// waitAll waits until all that was accepted is stored, or as long as the client wants.
func (g *Gateway) waitAll(ctx context.Context, b *batchAnswer, wait time.Duration) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	status = http.StatusCreated
	for i := range b.Results {
		r := &b.Results[i]
		if r.receipt == nil {
			continue
		}
		if e := g.waitStored(ctx, r.receipt, wait); e != nil && err == nil {
			err = e
		}
		level := r.receipt.Level()
		if r.Turn.Level = level.String(); level >= publisher.Stored {
			r.Status = http.StatusCreated
		} else {
			status = http.StatusAccepted
		}
	}
	return status, err
}

// checkBatch refuses what is not JSON lines.
func checkBatch(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get(idempotencyKey) != "" {
		return badRequest(idempotencyKey, idempotencyKey+" is for one turn. In a batch give each its id and timestamp.")
	}
	if p := httpio.CheckContent(w, r, batchTypes[0], func(kind string) bool { return slices.Contains(batchTypes, kind) }); p != nil {
		return p
	}
	return nil
}

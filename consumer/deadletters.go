package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// deadPage is how many dead letters are read before they are handed out: whoever
// gets them may take his time.
const deadPage = 500

// ErrNoLetter says that a dead letter is not there, or not any more.
var ErrNoLetter = errors.New("no such dead letter")

// errEnough ends a reading.
var errEnough = errors.New("read enough")

// DeadLetters looks at the dead letters and takes them out again. Its memory does
// not depend on how many there are.
type DeadLetters struct {
	JS jetstream.JetStream
	// Request bounds each request to the server; zero means what JS was made with.
	Request time.Duration
}

// DeadLetter is what a listing tells of a dead letter: nothing of what was said.
type DeadLetter struct {
	Seq          uint64     `json:"sequence"` // among the dead letters
	Stored       time.Time  `json:"time"`
	Group        string     `json:"group"`           // of the consumer that gave up
	StreamSeq    uint64     `json:"stream_sequence"` // in the stream of turns; 0 is not known
	Subject      string     `json:"subject"`         // where it was published
	Size         int        `json:"bytes"`           // of the payload
	Truncated    int        `json:"truncated_from,omitempty"`
	RequeuedFrom uint64     `json:"requeued_from,omitempty"` // it was requeued, and came to nothing again
	Kind         ReasonKind `json:"kind"`
	Reason       string     `json:"reason"`
	// Doubt says why the letter is not known to be the message that it says it is; "" when it is,
	// and where nobody looked: see [DeadLetters.Compare].
	Doubt string `json:"doubt,omitempty"`
}

// DeadFilter chooses dead letters; its zero value means all.
type DeadFilter struct {
	Seqs    []uint64  // these only
	Group   string    // of this consumer group
	Reason  string    // of this [ReasonKind], or with a reason that contains it
	Session string    // published on the subject of this session
	Since   time.Time // dead since then
	After   uint64    // with a higher sequence
	Until   uint64    // up to this sequence; 0 means up to the last one there is
	Limit   int       // at most so many; 0 means no limit
}

// whole says that the filter takes everything of a group, or of all.
func (f *DeadFilter) whole() bool {
	return len(f.Seqs) == 0 && f.Reason == "" && f.Session == "" && f.Since.IsZero() && f.After == 0 && f.Limit == 0
}

func (f *DeadFilter) matches(l *DeadLetter) bool {
	return (f.Group == "" || f.Group == l.Group) &&
		(f.Reason == "" || f.Reason == string(l.Kind) || !slices.Contains(ReasonKinds[:], ReasonKind(f.Reason)) && strings.Contains(l.Reason, f.Reason)) &&
		(f.Session == "" || l.Subject == stream.TurnSubject(f.Session)) &&
		!l.Stored.Before(f.Since) && l.Seq > f.After && (f.Until == 0 || l.Seq <= f.Until)
}

func (d DeadLetters) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, stream.RequestBound(d.Request, d.JS))
}

func (d DeadLetters) stream(ctx context.Context) (jetstream.Stream, error) {
	rctx, cancel := d.bound(ctx)
	defer cancel()
	s, err := d.JS.Stream(rctx, stream.Dead)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream.Dead, err)
	}
	return s, nil
}

// Last returns the sequence of the last dead letter so far, for a filter's Until.
func (d DeadLetters) Last(ctx context.Context) (uint64, error) {
	s, err := d.stream(ctx)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Each calls fn with the dead letters of a filter that are there when it begins, in
// the order in which they came. They may be removed meanwhile. It stops at fn's first error;
// when some of the filter's Seqs are not there, its error is an [ErrNoLetter] in the end.
func (d DeadLetters) Each(ctx context.Context, f DeadFilter, fn func(DeadLetter) error) error {
	s, err := d.stream(ctx)
	if err != nil {
		return err
	}
	if len(f.Seqs) > 0 {
		return d.eachOf(ctx, s, f, fn)
	}
	if f.Until == 0 {
		f.Until = s.CachedInfo().State.LastSeq
	}
	subject := ""
	if f.Group != "" {
		if subject, err = stream.DeadSubject(f.Group); err != nil {
			return err
		}
	}
	given := 0
	for f.After < f.Until {
		page, next, err := d.page(ctx, subject, f)
		if err != nil {
			return err
		}
		for _, l := range page {
			if err := fn(l); err != nil {
				return err
			}
			if given++; given == f.Limit {
				return nil
			}
		}
		f.After = next
	}
	return nil
}

// eachOf is Each for a list of sequences.
func (d DeadLetters) eachOf(ctx context.Context, s jetstream.Stream, f DeadFilter, fn func(DeadLetter) error) error {
	var missing []string
	given := 0
	for _, seq := range slices.Compact(slices.Sorted(slices.Values(f.Seqs))) {
		m, err := d.get(ctx, seq)
		switch {
		case errors.Is(err, ErrNoLetter):
			missing = append(missing, strconv.FormatUint(seq, 10))
			continue
		case err != nil:
			return err
		}
		l := describe(m.Subject, m.Header, seq, m.Time, len(m.Data))
		if !f.matches(&l) {
			continue
		}
		if err := fn(l); err != nil {
			return err
		}
		if given++; given == f.Limit {
			break
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", ErrNoLetter, strings.Join(missing, ", "))
	}
	return nil
}

// page reads headers up to the next letters that match. next is how far it came.
func (d DeadLetters) page(ctx context.Context, subject string, f DeadFilter) (page []DeadLetter, next uint64, err error) {
	part := span{after: f.After, since: f.Since, headers: true}
	next, err = readTo(ctx, d.JS, stream.Dead, f.Until, subject, part, stream.RequestBound(d.Request, d.JS), func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		size, _ := strconv.Atoi(m.Headers().Get(nats.MsgSize))
		if l := describe(m.Subject(), m.Headers(), meta.Sequence.Stream, meta.Timestamp, size); f.matches(&l) {
			page = append(page, l)
		}
		if len(page) == deadPage {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return page, page[len(page)-1].Seq, nil
	}
	return page, next, err
}

// describe reads the headers of a dead letter. Anybody may have published it, so
// what does not make sense is left out.
func describe(subject string, h nats.Header, seq uint64, stored time.Time, size int) DeadLetter {
	l := DeadLetter{
		Seq: seq, Stored: stored.UTC(), Size: size,
		Group:   cleanReason(strings.TrimPrefix(subject, stream.DeadPrefix)),
		Subject: cleanReason(h.Get(stream.HeaderSubject)),
		Reason:  cleanReason(h.Get(stream.HeaderReason)),
	}
	l.Kind = KindOf(l.Reason)
	l.StreamSeq, _ = strconv.ParseUint(h.Get(stream.HeaderStreamSeq), 10, 64)
	l.RequeuedFrom, _ = strconv.ParseUint(h.Get(stream.HeaderRequeuedFrom), 10, 64)
	l.Truncated, _ = strconv.Atoi(h.Get(headerTruncated))
	return l
}

// get reads one dead letter whole.
func (d DeadLetters) get(ctx context.Context, seq uint64) (*jetstream.RawStreamMsg, error) {
	if seq == 0 {
		return nil, fmt.Errorf("%w: 0", ErrNoLetter) // the server would look for anything
	}
	rctx, cancel := d.bound(ctx)
	defer cancel()
	m, err := stream.Message(rctx, d.JS, stream.Dead, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: %d", ErrNoLetter, seq)
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter %d: %w", seq, err)
	}
	if m.Header == nil { // they cannot be parsed
		m.Header = nats.Header{}
	}
	return m, nil
}

// Letter returns a dead letter with its headers and its payload as it came, compared with the
// message that it was made of.
func (d DeadLetters) Letter(ctx context.Context, seq uint64) (l DeadLetter, h nats.Header, payload []byte, err error) {
	m, err := d.get(ctx, seq)
	if err != nil {
		return l, nil, nil, err
	}
	o, err := d.origins(ctx)
	if err != nil {
		return l, nil, nil, err
	}
	doubt, err := o.doubt(ctx, seq, m)
	if err != nil {
		return l, nil, nil, err
	}
	for _, name := range []string{jetstream.StreamHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer, jetstream.SubjectHeader, jetstream.LastSequenceHeader} {
		m.Header.Del(name) // of the answer, not of the letter
	}
	l = describe(m.Subject, m.Header, seq, m.Time, len(m.Data))
	l.Doubt = doubt
	return l, m.Header, m.Data, nil
}

// Remove removes dead letters for good and returns how many. With a filter that
// takes all of a group it is one request, else one a letter. The events that they
// were made of stay in the stream of turns for as long as that keeps them.
func (d DeadLetters) Remove(ctx context.Context, f DeadFilter) (n uint64, err error) {
	s, err := d.stream(ctx)
	if err != nil {
		return 0, err
	}
	if f.whole() && f.Until > 0 {
		return d.purge(ctx, s, f)
	}
	err = d.Each(ctx, f, func(l DeadLetter) error {
		if err := d.remove(ctx, s, l.Seq); err != nil {
			return err
		}
		n++
		return nil
	})
	return n, err
}

func (d DeadLetters) purge(ctx context.Context, s jetstream.Stream, f DeadFilter) (uint64, error) {
	options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSequence(f.Until + 1)}
	if f.Group != "" {
		subject, err := stream.DeadSubject(f.Group)
		if err != nil {
			return 0, err
		}
		options = append(options, jetstream.WithPurgeSubject(subject))
	}
	var before uint64
	err := d.Each(ctx, f, func(DeadLetter) error { before++; return nil })
	if err != nil {
		return 0, err
	}
	rctx, cancel := d.bound(ctx)
	defer cancel()
	if err := s.Purge(rctx, options...); err != nil {
		return 0, fmt.Errorf("remove dead letters: %w", err)
	}
	return before, nil
}

// remove removes one dead letter. One that is gone already is fine.
func (d DeadLetters) remove(ctx context.Context, s jetstream.Stream, seq uint64) error {
	rctx, cancel := d.bound(ctx)
	defer cancel()
	err := s.DeleteMsg(rctx, seq)
	if err == nil {
		return nil
	}
	if _, gone := stream.Message(rctx, d.JS, stream.Dead, seq); errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("remove dead letter %d: %w", seq, err)
}

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

const (
	workerCommand = "worker"
	reportEvery   = 100 * time.Millisecond
)

// kind is a job of a worker.
type kind string

// job is what a worker is told.
type job struct {
	Kind    kind   `json:"kind"`
	URL     string `json:"url,omitempty"`
	Group   string `json:"group,omitempty"`
	Dir     string `json:"dir,omitempty"` // of transcripts; fresh
	Turns   int    `json:"turns"`
	Batch   int    `json:"batch,omitempty"`
	Workers int    `json:"workers,omitempty"`
	Source  Source `json:"source,omitzero"`
	Profile string `json:"profile,omitempty"` // file
	// Rate is how many turns come a second, For is how long they do.
	Rate int           `json:"rate,omitempty"`
	For  time.Duration `json:"for,omitempty"`
}

// outcome is what a worker found out.
type outcome struct {
	Seconds float64 `json:"seconds"` // of what is measured
	After   float64 `json:"after"`   // seconds until all documents were folded, after that
	Peak    int64   `json:"peak"`    // bytes of memory
	Folds   int64   `json:"folds"`
	Written int64   `json:"written"` // turns
	Sync    float64 `json:"sync"`    // seconds that making a batch durable took, on average
	P50     float64 `json:"p50"`     // seconds from one end to the other
	P99     float64 `json:"p99"`
}

func (o outcome) rate(turns int) float64 { return float64(turns) / o.Seconds }

// line is what a worker writes to its standard output.
type line struct {
	Done    int      `json:"done,omitempty"`
	Outcome *outcome `json:"outcome,omitempty"`
}

// work runs a job in a process of its own.
func (l *lab) work(ctx context.Context, what string, j job) (outcome, error) {
	fail := func(err error) (outcome, error) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return outcome{}, fmt.Errorf("%s: %w", what, err)
	}
	log := l.fresh(string(j.Kind) + ".log")
	if l.Profile != "" {
		j.Profile = filepath.Join(l.Profile, fmt.Sprintf("%s-%03d.pprof", j.Kind, l.names))
	}
	in, err := json.Marshal(j)
	if err != nil {
		return fail(err)
	}
	cmd := exec.Command(l.Self[0], append(append([]string(nil), l.Self[1:]...), workerCommand)...)
	cmd.Stdin = bytes.NewReader(in)
	r, w, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer r.Close()
	cmd.Stdout = w
	p, err := spawn(cmd, log)
	w.Close()
	if err != nil {
		return fail(err)
	}
	defer p.kill()
	defer context.AfterFunc(ctx, p.kill)()
	l.Progress(what, 0, j.Turns)
	var found *outcome
	for scan := bufio.NewScanner(r); scan.Scan(); {
		var said line
		if err := json.Unmarshal(scan.Bytes(), &said); err != nil {
			return fail(fmt.Errorf("the worker said %q: %w", scan.Text(), err))
		}
		if said.Outcome != nil {
			found = said.Outcome
			continue
		}
		l.Progress(what, said.Done, j.Turns)
	}
	<-p.done
	if p.err != nil || found == nil {
		return fail(fmt.Errorf("the worker failed: %w: %s", p.err, p.output()))
	}
	return *found, nil
}

// Work does the job that it reads and writes how far it is, and what it found
// out. It is the process that a benchmark measures.
func Work(ctx context.Context, in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return fmt.Errorf("bench worker: read the job: %w", err)
	}
	do, ok := map[kind]func(context.Context, job, func(int)) (outcome, error){
		drainJob: drain, consumeJob: consume, replaceJob: replace, appendJob: appendFiles, syncsJob: syncTwice,
		readJob: readStream, replayJob: replay,
		tailJob: endToEndWorker, documentJob: endToEndWorker, burstJob: endToEndWorker,
	}[j.Kind]
	if !ok {
		return fmt.Errorf("bench worker: unknown job %q", j.Kind)
	}
	enc := json.NewEncoder(out)
	var mu sync.Mutex // a replay reports from several goroutines
	var last time.Time
	progress := func(done int) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(last) >= reportEvery {
			last = now
			_ = enc.Encode(line{Done: done}) // whoever wanted to know is gone
		}
	}
	if j.Profile != "" {
		stop, err := profile(j.Profile)
		if err != nil {
			return fmt.Errorf("bench worker: %w", err)
		}
		defer stop()
	}
	o, err := do(ctx, j, progress)
	if err != nil {
		return fmt.Errorf("bench worker: %s: %w", j.Kind, err)
	}
	if o.Peak, err = peakMemory(); err != nil {
		return fmt.Errorf("bench worker: %w", err)
	}
	return enc.Encode(line{Outcome: &o})
}

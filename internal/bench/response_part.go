package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// partCommand is what is appended to [Config.Self] to run [ResponsePart].
var partCommand = []string{"response", "part"}

// partKind is what a process of the load test does.
type partKind string

const (
	apiPart       partKind = "api"       // answers chats
	consumersPart partKind = "consumers" // takes turns from the stream into transcripts and Redis
	cleanerPart   partKind = "cleaner"   // removes mounts and namespaces when nobody needs them any more
	probePart     partKind = "probe"     // publishes turns and waits until Redis has them
)

// partJob is what such a process is told, as the first line of its standard input.
type partJob struct {
	Part   partKind      `json:"part"`
	Writer Writer        `json:"writer,omitempty"`
	NATS   string        `json:"nats,omitempty"`
	Redis  string        `json:"redis,omitempty"`
	Dir    string        `json:"dir,omitempty"` // of transcripts
	Think  time.Duration `json:"think,omitempty"`
	Turns  int           `json:"turns,omitempty"`
	Every  time.Duration `json:"every,omitempty"`

	Profile string `json:"profile,omitempty"` // file
}

// partLine is what it says on its standard output, in lines.
type partLine struct {
	Ready bool            `json:"ready,omitempty"`
	Addr  string          `json:"addr,omitempty"` // of the API
	Took  []time.Duration `json:"took,omitempty"` // of a probe
}

// ResponsePart does one job of the load test's processes until ctx ends.
func ResponsePart(ctx context.Context, in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	first, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	var j partJob
	if err := json.Unmarshal(first, &j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	if j.Profile != "" {
		stop, err := profile(j.Profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	enc := json.NewEncoder(out)
	say := func(line partLine) { _ = enc.Encode(line) } // who started it may be gone
	switch j.Part {
	case apiPart:
		err = serveChat(ctx, j, say)
	case consumersPart:
		err = serveConsumers(ctx, j, say)
	case cleanerPart:
		err = cleanUp(r, say)
	case probePart:
		err = probe(ctx, j, say)
	default:
		err = errors.New("unknown part")
	}
	if err != nil {
		return fmt.Errorf("part %q of the load test: %w", j.Part, err)
	}
	return nil
}

// part is such a process, seen from the benchmark.
type part struct {
	*process
	said chan partLine // closed when it says no more
}

// startPart starts a process and waits until it says that it is ready. prefix is
// a command that runs it, such as one that enters a namespace.
func (l *lab) startPart(ctx context.Context, j partJob, prefix ...string) (*part, partLine, error) {
	fail := func(err error) (*part, partLine, error) {
		return nil, partLine{}, fmt.Errorf("start %s: %w", j.Part, err)
	}
	log := l.fresh(string(j.Part) + ".log")
	if l.Profile != "" {
		j.Profile = filepath.Join(l.Profile, fmt.Sprintf("response-%03d-%s.pprof", l.names, j.Part))
	}
	in, err := json.Marshal(j)
	if err != nil {
		return fail(err)
	}
	argv := append(append(append([]string(nil), prefix...), l.Self...), partCommand...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(append(in, '\n'))
	r, w, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	cmd.Stdout = w
	proc, err := spawn(cmd, log)
	w.Close()
	if err != nil {
		r.Close()
		return fail(err)
	}
	p := &part{proc, make(chan partLine, 16)}
	go func() {
		defer r.Close()
		defer close(p.said)
		scan := bufio.NewScanner(r)
		scan.Buffer(nil, 16<<20)
		for scan.Scan() {
			var said partLine
			if json.Unmarshal(scan.Bytes(), &said) == nil { // a test binary says other things too
				p.said <- said
			}
		}
	}()
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	select {
	case said, ok := <-p.said:
		if ok && said.Ready {
			return p, said, nil
		}
		err = fmt.Errorf("%w: %s", errExited, p.output())
	case <-late.C:
		err = fmt.Errorf("not ready after %v: %s", startTimeout, p.output())
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p.kill()
	return fail(err)
}

// finish asks the process to end and waits as long as bound. The error is how it
// ended, in its own words.
func (p *part) finish(ctx context.Context, bound time.Duration) error {
	p.signal(syscall.SIGTERM)
	late := time.NewTimer(bound)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
		p.kill()
		return fmt.Errorf("did not end within %v: %s", bound, p.output())
	case <-ctx.Done():
		p.kill()
		return context.Cause(ctx)
	}
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, p.output())
	}
	return nil
}

// command runs a program of the system.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

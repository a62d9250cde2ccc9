package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// pair is a gateway and a consumer that share a data folder, as on one machine, and
// clients who believe what the gateway tells them.
type pair struct {
	t    *testing.T
	rnd  *rand.Rand
	nats *servertest.NATSNode
	l    *ledger

	running map[string]*service // by name
	front   atomic.Pointer[api] // of the gateway that runs
	names   atomic.Pointer[[]string]

	stop   chan struct{}
	work   sync.WaitGroup
	mu     sync.Mutex
	levels map[string]int // how safe turns were called
	wrong  []error
}

// victims are who is killed, together, and the system calls by which they change files.
var victims = []struct{ who, calls []string }{
	{[]string{"consume"}, []string{"write", "fsync", "fdatasync", "renameat", "ftruncate"}},
	{[]string{"gateway"}, []string{"write", "fsync", "fdatasync", "unlinkat"}},
	{[]string{"consume", "gateway"}, []string{"write", "fsync", "fdatasync", "renameat", "unlinkat"}},
}

// Kill -9 of the consumer, of the gateway and of both at once, at random moments, while
// they start, and as they enter the system calls that change files, with NATS there and
// without: every turn that was called spooled, stored or written is in its document,
// once; whoever reads meanwhile reads whole documents and histories; nothing is left lying about.
func TestKill9OfGatewayAndConsumer(t *testing.T) {
	const page = 40 // rounds with the same sessions
	rounds := choose(9, 1000)
	faults.NeedTrace(t)
	p := newPair(t)
	seen := observeOnly(t, p.l.dataDir, choose(1, 2), func() (paths []string) {
		for _, name := range *p.names.Load() {
			paths = append(paths, documentPath(p.l.dataDir, name))
		}
		return paths
	})
	seen.ask(p.front.Load, func() []string { return *p.names.Load() })
	died, calls := make(map[string]int), make(map[string]int)
	began := time.Now()
	for i := range rounds {
		if i%page == 0 {
			p.begin(fmt.Sprintf("pair-%d-%%d", i/page))
		}
		away := i%12 == 1 || i%12 == 4 || i%12 == 8 // NATS
		if away {
			p.nats.Kill9()
		}
		v := victims[i%3]
		who, name := v.who, strings.Join(v.who, " and ")
		at := "random"
		if i/3%2 == 1 {
			at = v.calls[p.rnd.IntN(len(v.calls))]
		}
		at = p.kill(at, who)
		died[name+" at "+at]++
		calls[at]++
		if p.rnd.IntN(4) == 0 {
			died[name+" as they start"]++
			p.killAtStart(who)
		}
		p.start(who...)
		if away {
			p.nats.Restart()
		}
		if i%page == page-1 || i == rounds-1 {
			p.settle(fmt.Sprintf("round %d", i))
		}
		if t.Failed() {
			return
		}
	}
	seen.end(t)
	run(t, "verify", "--all", "--nats-url", p.nats.URL(), "--redis-url", "none", "--data-dir", p.l.dataDir)
	t.Logf("%d rounds of kill -9 in %v; turns by the level that they were given: %v; verify --all → exit 0", rounds, time.Since(began).Round(time.Second), p.levels)
	for _, what := range slices.Sorted(maps.Keys(died)) {
		t.Logf("  %-45s %d times", what, died[what])
	}
	t.Log(p.l.figures())
	for _, v := range victims {
		for _, call := range v.calls {
			if *full && calls[call] == 0 {
				t.Errorf("nobody was killed at %s", call)
			}
		}
	}
	if p.levels["spooled"] == 0 || p.levels["stored"]+p.levels["written"] == 0 {
		t.Errorf("not every level was given: %v", p.levels)
	}
	if readings := seen.opened + seen.asked; *full && readings < 1_000_000 {
		t.Errorf("%d readings, want 1,000,000", readings)
	}
	for _, s := range p.running {
		s.stop()
	}
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, rnd: random(t), nats: servertest.NATSProcess(t), running: make(map[string]*service), levels: make(map[string]int)}
	// In memory: a kill loses nothing that was written, and other disks' syncs are slow.
	p.l = newLedger(filepath.Join(faults.Small(t, 512<<20, 1<<20).Dir(), "data"))
	p.names.Store(new([]string))
	p.start("consume", "gateway")
	for _, s := range p.running {
		s.ready()
	}
	t.Cleanup(p.end)
	return p
}

// command is how a service is started.
func (p *pair) command(name string) []string {
	line := []string{name, "--nats-url", p.nats.URL(), "--redis-url", "none", "--data-dir", p.l.dataDir, "--file-timeout", "1s"}
	if name == "consume" {
		line = append(line, "--ack-wait", "8s")
	}
	return line
}

func (p *pair) start(who ...string) {
	p.t.Helper()
	for _, name := range who {
		s := startService(p.t, p.command(name)...)
		p.running[name] = s
		if name == "gateway" {
			p.front.Store(&s.api)
		}
	}
}

// kill ends services at once, as the first of them enters a system call or at a random
// moment, and returns when that was: a call that does not come in time is not waited for.
func (p *pair) kill(at string, who []string) string {
	p.t.Helper()
	const patience = 4 * time.Second
	spread(p.t, time.Duration(p.rnd.IntN(400))*time.Millisecond)
	if at != "random" {
		hit := faults.Injection{Calls: []string{at}, Once: true, Kill: true}
		if at == "write" { // most of them are to connections
			hit.From = 1 + p.rnd.IntN(20)
		}
		var detach []func()
		hits := make(chan struct{}, len(who))
		for _, name := range who {
			s := p.running[name]
			detach = append(detach, hit.Attach(p.t, s.cmd.Process.Pid))
			go func() {
				<-s.done
				hits <- struct{}{}
			}()
		}
		timer := time.NewTimer(patience)
		select {
		case <-hits:
		case <-timer.C:
			at = "random"
		}
		timer.Stop()
		defer func() {
			for _, fn := range detach {
				fn()
			}
		}()
	}
	for _, name := range who {
		p.running[name].signal(os.Kill)
	}
	for _, name := range who {
		<-p.running[name].done
	}
	return at
}

// killAtStart starts services that do not get far.
func (p *pair) killAtStart(who []string) {
	p.t.Helper()
	var started []*process
	for _, name := range who {
		started = append(started, start(p.t, p.command(name)...))
	}
	spread(p.t, time.Duration(p.rnd.IntN(250))*time.Millisecond)
	for _, s := range started {
		s.kill9()
	}
}

// begin lets clients talk in sessions of their own.
func (p *pair) begin(format string) {
	names := namesOf(format, 8)
	p.names.Store(&names)
	p.stop = make(chan struct{})
	for _, name := range names {
		rnd := rand.New(rand.NewPCG(p.rnd.Uint64(), p.rnd.Uint64()))
		p.work.Go(func() { p.talk(name, rnd) })
	}
}

func (p *pair) end() {
	if p.stop != nil {
		close(p.stop)
		p.work.Wait()
		p.stop = nil
	}
}

// talk posts turns of a session one by one, each until the gateway calls it safe or is
// gone. Now and then the session is quiet for so long that its tail is emptied.
func (p *pair) talk(session string, rnd *rand.Rand) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		case <-pause.C:
		}
		pause.Reset(20 * time.Millisecond)
		if rnd.IntN(50) == 0 {
			pause.Reset(transcript.DefaultQuietAfter + 2*time.Second)
		}
		text := fmt.Sprintf("question %d of %s: %x", n, session, rnd.Uint64())
		w := turn{
			ID: fmt.Sprintf("%s-%d", session, n), Session: session, Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.000000") + "+00:00",
			User: text, Assistant: answerTo(text), Status: "complete", Rev: 1,
		}
		p.l.send(w)
		gateway := p.front.Load()
		level, err := gateway.submit(w, rnd.IntN(4) == 0)
		for level == "buffered" {
			level = gateway.level(w)
		}
		if err != nil {
			p.mu.Lock()
			p.wrong = append(p.wrong, err)
			p.mu.Unlock()
		}
		if level == "" {
			pause.Reset(50 * time.Millisecond)
		} else {
			p.l.ack(w)
			p.mu.Lock()
			p.levels[level]++
			p.mu.Unlock()
		}
	}
}

// submit posts a whole turn, and may ask to wait until it is stored; "" is no answer.
func (a *api) submit(w turn, wait bool) (level string, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, a.url+"/v1/sessions/"+url.PathEscape(w.Session)+"/turns", bytes.NewReader([]byte(w.payload())))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if wait {
		req.Header.Set("Prefer", "wait=1")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return "", nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", nil
	}
	var v struct{ Level string }
	if err := json.Unmarshal(body, &v); err != nil || v.Level == "" || resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("turn %s: answered %d %s", w.ID, resp.StatusCode, body)
	}
	return v.Level, nil
}

// settle lets everything come to rest: no client, all that is owed in the documents,
// nothing on its way, nothing left behind.
func (p *pair) settle(when string) {
	p.t.Helper()
	p.end()
	for _, err := range p.wrong {
		p.t.Errorf("%d answers were wrong: %v", len(p.wrong), err)
		break
	}
	for _, s := range p.running {
		s.ready()
	}
	eventually(p.t, healed, "what is owed is in documents, and nothing is left behind", func() error {
		if err := errors.Join(p.l.missing(), p.l.unfolded()); err != nil { // turns that are not owed may come, too
			return err
		}
		if n := p.running["gateway"].metric("afterword_spool_turns"); n != "0" {
			return fmt.Errorf("%s turns are in the spool", n)
		}
		if files, err := listFiles(filepath.Join(p.l.dataDir, "spool")); err != nil || len(files) > 2 { // its lock, and the segment that is written
			return fmt.Errorf("the spool has %v, %v", files, err)
		}
		return leftovers(p.l.dataDir)
	})
	p.l.check(p.t, noLoss, when)
	p.l.checkFolded(p.t)
	for _, name := range p.l.outside() {
		p.t.Errorf("%s was left behind", name)
	}
	p.l.next()
}

// missing says which turns are owed and in no document.
func (l *ledger) missing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for session, turns := range l.sent {
		found, err := l.held(session)
		if err != nil {
			return err
		}
		have := make(map[string]int)
		for _, w := range found.document {
			have[w.ID] = w.Rev
		}
		for _, w := range append(turns, found.tail...) { // a fold is owed too
			if have[w.ID] < l.acked[snapshotKey{session, w.ID}] {
				return errors.New("turn " + w.ID + " is not in its document")
			}
		}
	}
	return nil
}

// outside are files of the data folder that belong neither to transcripts nor to the spool.
func (l *ledger) outside() []string {
	names, err := listFiles(l.dataDir)
	if err != nil {
		return []string{err.Error()}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, "transcripts/") || strings.HasPrefix(name, "spool/")
	})
}

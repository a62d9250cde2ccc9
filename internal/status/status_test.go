package status_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/status"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// patience is how long something may take on a busy machine.
const patience = 60 * time.Second

// fixture is a server with both streams, and a folder.
type fixture struct {
	t   *testing.T
	js  jetstream.JetStream
	dir string
}

func newFixture(t *testing.T, limits stream.StreamConfig) *fixture {
	t.Helper()
	js := servertest.JetStream(t, servertest.NATS(t).URL())
	if err := stream.Ensure(t.Context(), js, limits); err != nil {
		t.Fatal(err)
	}
	return &fixture{t, js, filepath.Join(t.TempDir(), "transcripts")}
}

func (f *fixture) config() status.Config {
	return status.Config{
		NATSURL: "nats://somewhere",
		Connect: func(context.Context) (jetstream.JetStream, error) { return f.js, nil },
		Open: func() (*transcript.Store, error) {
			if _, err := os.Stat(f.dir); err != nil {
				return nil, nil
			}
			return transcript.Open(transcript.Config{Dir: f.dir, ReadOnly: true})
		},
	}
}

// look gathers once.
func (f *fixture) look(cfg status.Config) status.Report {
	f.t.Helper()
	g, err := status.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	r := g.Gather(f.t.Context())
	if err := g.Close(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return r
}

// consume runs a consumer until stop is called.
func (f *fixture) consume() (stop func()) {
	f.t.Helper()
	s, err := transcript.Open(transcript.Config{Dir: f.dir})
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := consumer.New(consumer.Config{JS: f.js, Store: s})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() {
		f.t.Helper()
		cancel()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
		if err := s.Close(context.WithoutCancel(f.t.Context())); err != nil {
			f.t.Error(err)
		}
	}
}

func (f *fixture) publish(n int) {
	f.t.Helper()
	for i := range n {
		payload := fmt.Sprintf(`{"session_id":"s","id":"%d-%d","timestamp":"2026-11-24T12:00:00Z","user":"%s"}`, time.Now().UnixNano(), i, strings.Repeat("x", 1000))
		if _, err := f.js.Publish(f.t.Context(), stream.TurnSubject("s"), []byte(payload)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// Answers in the name of a consumer that contradict its own are a warning, and hide it from nobody.
func TestForgedMember(t *testing.T) {
	f := newFixture(t, stream.StreamConfig{})
	forger, err := f.js.Conn().Subscribe(stream.Members, func(m *nats.Msg) {
		for acked := range 2 {
			_ = m.Respond(fmt.Appendf(nil, `{"instance":"i","group":"transcripts","acked":%d,"latency":[0%s]}`, acked, strings.Repeat(",0", 35)))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer forger.Unsubscribe()
	wants(t, f.look(f.config()), status.CheckAccess, "", status.Warning, "2 answers about consumers contradict each other")
}

// check returns the check of a name, nil when there is none.
func check(r status.Report, name, of string) *status.Check {
	for i := range r.Checks {
		if c := &r.Checks[i]; c.Name == name && (of == "" || c.Of == of) {
			return c
		}
	}
	return nil
}

// wants compares a check with the level it should have; what is wrong says what to do.
func wants(t *testing.T, r status.Report, name, of string, level status.Level, found string) {
	t.Helper()
	c := check(r, name, of)
	if c == nil || c.Level != level || !strings.Contains(c.Found, found) || (c.Do == "") != (level == status.OK) {
		t.Errorf("%s %s is %+v, want %s with %q", name, of, c, level, found)
	}
}

func TestEverythingIsWell(t *testing.T) {
	f := newFixture(t, stream.StreamConfig{})
	stop := f.consume()
	defer stop()
	f.publish(3)
	// A busy machine is no outage.
	redis, err := cache.New(cache.Config{URL: servertest.Redis(t).URL(), OpTimeout: patience, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			http.NotFound(w, r)
		}
	}))
	defer service.Close()
	cfg := f.config()
	cfg.Redis, cfg.Services, cfg.Timeout = redis, []string{service.Listener.Addr().String()}, patience

	var r status.Report
	servertest.Eventually(t, patience, "everything is written", func() bool {
		r = f.look(cfg)
		return len(r.Groups) == 1 && r.Groups[0].Lag == 0 && r.Groups[0].Consumed && r.Transcripts != nil && r.Transcripts.Files.Documents == 1
	})
	for _, c := range r.Checks {
		if c.Name != status.CheckSpace && (c.Level != status.OK || c.Do != "") { // the disk is whoever's runs the test
			t.Errorf("%+v", c)
		}
	}
	for _, name := range []string{status.CheckNATS, status.CheckStream, status.CheckSync, status.CheckLimits, status.CheckRetention, status.CheckConsumers,
		status.CheckLag, status.CheckDead, status.CheckRedis, status.CheckFolder, status.CheckSpace, status.CheckTails, status.CheckService} {
		if check(r, name, "") == nil {
			t.Errorf("there is no check %s", name)
		}
	}
	if g := r.Transcripts.Groups; len(g) != 1 || g[0] != consumer.DefaultGroup {
		t.Errorf("the folder is of groups %q", g)
	}
	if r.Transcripts.Space.FreeBytes == 0 || !r.Transcripts.Files.Complete || !r.NATS.Reachable || !r.Redis.Reachable {
		t.Errorf("%+v", r)
	}
	// What is printed for programs has no null where a list is.
	b, err := json.Marshal(r)
	if err != nil || strings.Contains(string(b), "null") {
		t.Errorf("%v: %s", err, b)
	}
}

// A service of this machine that others may reach is warned of, ready or not, and once; other programs may
// have its address.
func TestExposedService(t *testing.T) {
	f := newFixture(t, stream.StreamConfig{})
	serve := func(answer string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, answer)
		}))
		t.Cleanup(srv.Close)
		return srv.Listener.Addr().String()
	}
	open := serve(`{"type":"urn:afterword:problem:not-ready","exposed":["0.0.0.0:8080"]}`)
	cfg := f.config()
	cfg.Local = []string{open, serve("<html>exposed</html>"), serve(`{"exposed":["x\u001b[31m"]}`), "127.0.0.1:1"}
	warned := func(of string) {
		t.Helper()
		var of0 []string
		for _, c := range f.look(cfg).Checks {
			if c.Name == status.CheckAccess {
				of0 = append(of0, c.Of)
			}
			if c.Name == status.CheckService && len(cfg.Services) == 0 {
				t.Errorf("%+v", c)
			}
		}
		if !slices.Equal(of0, []string{of}) {
			t.Errorf("warnings of %q, want of %q", of0, of)
		}
	}
	warned(open)
	cfg.Exposed = []string{"0.0.0.0:8080"} // as this process says itself
	warned("")
	cfg.Exposed, cfg.Services = nil, []string{open} // asked twice
	warned(open)
	cfg.Services = []string{serve(`{"exposed":["0.0.0.0:8080"]}`)} // another name of it
	warned(cfg.Services[0] + ", " + open)
}

// Nobody consumes, and what waits is getting old: both are worse than anything else.
func TestNobodyConsumes(t *testing.T) {
	f := newFixture(t, stream.StreamConfig{})
	r := f.look(f.config())
	wants(t, r, status.CheckConsumers, "", status.Warning, "no group consumes; 0 turns")
	f.publish(2)
	r = f.look(f.config())
	wants(t, r, status.CheckConsumers, "", status.Critical, "no group consumes; 2 turns")

	stop := f.consume()
	servertest.Eventually(t, patience, "both are written", func() bool {
		r := f.look(f.config())
		return len(r.Groups) == 1 && r.Groups[0].Lag == 0
	})
	stop()
	// Its last request stands for a second.
	servertest.Eventually(t, patience, "nobody fetches", func() bool { r = f.look(f.config()); return !r.Groups[0].Consumed })
	wants(t, r, status.CheckConsumers, consumer.DefaultGroup, status.Warning, "nobody fetches")
	f.publish(3)
	cfg := f.config()
	cfg.LagWarning, cfg.LagCritical = time.Nanosecond, time.Hour
	r = f.look(cfg)
	wants(t, r, status.CheckConsumers, consumer.DefaultGroup, status.Critical, "nobody fetches, and 3 turns wait")
	wants(t, r, status.CheckLag, consumer.DefaultGroup, status.Warning, "3 turns behind, the oldest is")
	if k := r.Groups[0]; k.Lag != 3 || k.OldestTime == nil || k.LagSeconds <= 0 || k.LagSeconds > 300 {
		t.Errorf("%+v", k)
	}
	if r.Level != status.Critical || r.Checks[0].Level != status.Critical || r.Worst() != "consumers "+consumer.DefaultGroup {
		t.Errorf("%s: %s", r.Level, r.Worst())
	}
}

// A stream that deletes what nobody has written, and one that is about to refuse.
func TestLimits(t *testing.T) {
	f := newFixture(t, stream.StreamConfig{MaxAge: 12 * time.Second, MaxBytes: 20 << 10})
	stop := f.consume()
	servertest.Eventually(t, patience, "the group is there", func() bool { return len(f.look(f.config()).Groups) == 1 })
	stop()
	f.publish(16)
	var r status.Report
	servertest.Eventually(t, patience, "half of the max age is over", func() bool {
		r = f.look(f.config())
		return check(r, status.CheckRetention, "").Level == status.Critical
	})
	wants(t, r, status.CheckRetention, consumer.DefaultGroup, status.Critical, "the stream deletes turns that are not written from")
	wants(t, r, status.CheckLimits, stream.Turns, status.Warning, "% of its max bytes; a full stream refuses")
}

func TestDeadLettersByReason(t *testing.T) {
	f := newFixture(t, stream.StreamConfig{})
	stop := f.consume()
	defer stop()
	for _, payload := range []string{"{", `{"session_id":"a","user":"secret"}`, `{"session_id":"a"}`} {
		if _, err := f.js.Publish(t.Context(), stream.TurnSubject("a"), []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	var r status.Report
	servertest.Eventually(t, patience, "three dead letters", func() bool { r = f.look(f.config()); return r.DeadLetters.Total == 3 })
	wants(t, r, status.CheckDead, "", status.Warning, "3 dead letters: 1 json, 2 rule")
	if r.DeadLetters.Reasons[consumer.KindRule] != 2 || r.DeadLetters.Reasons[consumer.KindJSON] != 1 {
		t.Errorf("%v", r.DeadLetters)
	}
}

func TestFolderOfNobody(t *testing.T) {
	f := newFixture(t, stream.StreamConfig{})
	stop := f.consume()
	defer stop()
	servertest.Eventually(t, patience, "the group is there", func() bool { return len(f.look(f.config()).Groups) == 1 })
	f.dir = filepath.Join(t.TempDir(), "another")
	s, err := transcript.Open(transcript.Config{Dir: f.dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	shard := filepath.Join(f.dir, "00")
	if err := os.Mkdir(shard, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.json.corrupt-20260101T000000Z", "a.tail", "b.tail", "a.json"} {
		var content []byte
		if name == "a.tail" {
			content = []byte("x\n")
		}
		path := filepath.Join(shard, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	r := f.look(f.config())
	wants(t, r, status.CheckCorrupt, f.dir, status.Warning, "1 damaged file set aside")
	wants(t, r, status.CheckTails, f.dir, status.Warning, "1 session with turns to fold or just folded, since")
	wants(t, r, status.CheckFolder, f.dir, status.Warning, "no group writes into this folder")
	if n := r.Transcripts.Files; n.Documents != 1 || n.Tails != 1 || n.TailBytes != 2 || n.Corrupt != 1 || !n.Complete {
		t.Errorf("%+v", n)
	}
}

// Whatever is not there is a check, and nothing waits longer than the bound.
func TestNothingIsThere(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	redis, err := cache.New(cache.Config{URL: "redis://:s3cret@" + hole.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	hung := make(chan struct{})
	g, err := status.New(status.Config{
		NATSURL: "nats://somewhere", Timeout: 2 * time.Second,
		Connect: func(ctx context.Context) (jetstream.JetStream, error) {
			<-ctx.Done()
			return nil, stream.ErrUnreachable
		},
		Redis: redis, Services: []string{hole.Addr().String()},
		Open: func() (*transcript.Store, error) { <-hung; return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a disk that hangs is asked once
		began := time.Now()
		r := g.Gather(t.Context())
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
		wants(t, r, status.CheckNATS, "", status.Critical, "NATS is unreachable")
		wants(t, r, status.CheckRedis, "", status.Warning, "does not answer")
		wants(t, r, status.CheckFolder, "", status.Critical, "the disk does not answer")
		wants(t, r, status.CheckService, "", status.Critical, "no answer")
		if b, _ := json.Marshal(r); strings.Contains(string(b), "s3cret") {
			t.Errorf("a password is in %s", b)
		}
	}
	close(hung)
	servertest.Eventually(t, patience, "the disk answers", func() bool { return check(g.Gather(t.Context()), status.CheckFolder, "") == nil })
}

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/transcript"
)

// TestResponseProcess is a process of the load test when it is called with
// arguments, and no test of its own.
func TestResponseProcess(t *testing.T) {
	args := flag.Args()
	if len(args) == 0 {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if args[0] == natsCommand {
		err = ServeNATS(ctx, args[len(args)-1])
	} else {
		err = ResponsePart(ctx, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// smallResponse is a load test that takes seconds.
func smallResponse(t *testing.T) ResponseConfig {
	t.Helper()
	if testing.Short() {
		t.Skip("takes some seconds for each cell")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("the scratch folder is not cleaned up: %v, %v", left, err)
		}
		nothingLeft(t, dir)
	})
	return ResponseConfig{
		Config: Config{Runs: 1, Dir: dir, Self: []string{exe, "-test.run=^TestResponseProcess$", "--"}},
		Users:  []int{10}, Think: 5 * time.Millisecond, Duration: 2 * time.Second, Rate: 200, probeTurns: 20,
	}
}

// nothingLeft checks that no mount and no namespace outlives a benchmark.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(dir)) {
		t.Errorf("something is still mounted under %s:\n%s", dir, mounts)
	}
	spaces, _ := filepath.Glob(fmt.Sprintf("/run/netns/afterword-bench-%d-*", os.Getpid()))
	if len(spaces) > 0 {
		t.Errorf("namespaces are left: %v", spaces)
	}
}

// Whatever goes wrong, users of afterword see no error and lose no turn.
func TestResponse(t *testing.T) {
	cfg := smallResponse(t)
	cfg.Writers = []Writer{WriterNone, WriterAfterword}
	r, err := Response(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != 8 {
		t.Fatalf("%d cells", len(r.Cells))
	}
	for _, c := range r.Cells {
		if c.Skipped != "" {
			if c.Condition != DiskHung || !strings.HasPrefix(c.Skipped, "skipped: needs ") || os.Getenv(faults.All) == "1" {
				t.Errorf("%s, %s: %s", c.Condition, c.Writer, c.Skipped)
			}
			t.Logf("%s, %s: %s", c.Condition, c.Writer, c.Skipped)
			continue
		}
		if c.Turns.Min < 1 || c.P50.Min <= 0 || c.P50.Min > c.P95.Max || c.P95.Min > c.Max.Max || c.LagMax.Max <= 0 {
			t.Errorf("%s, %s: %+v", c.Condition, c.Writer, c)
		}
		if c.Writer == WriterAfterword && (c.Errors.Max > 0 || c.Lost.Max > 0 || c.Twice.Max > 0 || c.ToNone == nil || c.ToNone.Target == nil) {
			t.Errorf("%s: %v errors, %v turns lost, %v twice, %+v", c.Condition, c.Errors.Max, c.Lost.Max, c.Twice.Max, c.ToNone)
		}
	}
	var again ResponseResult
	text, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(text, &again)
	}
	if err != nil || len(again.Cells) != len(r.Cells) || len(again.Measures) != len(r.Measures) {
		t.Errorf("%v: %s", err, text)
	}
	if !bytes.Contains(r.Plot(), []byte("10 users")) {
		t.Error("the picture is empty")
	}
}

func TestResponseInlineAndChecks(t *testing.T) {
	cfg := smallResponse(t)
	cfg.Writers, cfg.Conditions, cfg.Checks = []Writer{WriterInline}, []Condition{Healthy}, true
	r, err := Response(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Cells[0]; c.Writer != WriterInline || c.Errors.Max > 0 || c.Lost.Max >= c.Turns.Max+float64(cfg.Users[0]) {
		t.Errorf("%+v", c)
	}
	for _, name := range []string{checkLag, checkChats, checkOps, checkBoth, checkHosts} {
		m, ok := r.Find(name)
		skipped := slices.ContainsFunc(r.Notes, func(s string) bool { return strings.HasPrefix(s, name+": skipped: needs ") })
		switch {
		case skipped && name == checkHosts:
			t.Log(r.Notes)
		case !ok || m.Target == nil || m.Min <= 0:
			t.Errorf("%s: %+v, %v", name, m, r.Notes)
		}
	}
}

// A load test that is interrupted leaves nothing behind, a hung disk neither.
func TestResponseInterrupted(t *testing.T) {
	cfg := smallResponse(t)
	cfg.Writers, cfg.Conditions, cfg.Duration = []Writer{WriterAfterword}, []Condition{DiskHung}, time.Minute
	if err := canHangDisks(); err != nil {
		faults.Lack(t, "%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	time.AfterFunc(4*time.Second, cancel) // the disk hangs by then
	if _, err := Response(ctx, cfg); ctx.Err() == nil || err == nil {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("ended after %v", took)
	}
}

// What is missing is counted, and what is there twice.
func TestResponseCount(t *testing.T) {
	dir := t.TempDir()
	store, err := transcript.Open(transcript.Config{Dir: filepath.Join(dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(t.Context())
	older := &inlineWriter{dir: dir, threads: make(chan struct{}, 1)}
	var doc inlineFile
	for i, text := range []string{"one x", "two x", "two x"} {
		turn := transcript.Turn{ID: fmt.Sprint(i), SessionID: "s", Timestamp: time.Now(), User: text}
		d, err := turn.Draft()
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Snapshot(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Append(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		doc.Messages = append(doc.Messages, inlineMessage{chatTurn{User: text}, time.Now()})
	}
	if err := older.replace("s", doc); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*stage{
		{dir: store.Dir(), cell: cell{writer: WriterAfterword}},
		{dir: dir, cell: cell{writer: WriterInline}},
	} {
		var o seen
		if err := s.count(t.Context(), map[string][]string{"s": {"one", "two", "three"}, "other": {"four"}}, &o); err != nil {
			t.Fatal(err)
		}
		if o.lost != 2 || o.twice != 1 {
			t.Errorf("%s: %d lost, %d twice", s.writer, o.lost, o.twice)
		}
	}
}

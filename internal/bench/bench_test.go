package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// plausible checks what every result has: figures above 0, medians within their
// runs, JSON that comes back the same, and a picture that is XML.
func plausible(t *testing.T, r *Result, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Measures) == 0 || len(r.Panels) == 0 || len(r.Settings) == 0 || r.Seconds <= 0 {
		t.Errorf("something is missing: %+v", r)
	}
	for _, m := range r.Measures {
		if len(m.Runs) == 0 || m.Min < 0 || m.Min > m.Median || m.Median > m.Max || math.IsNaN(m.Median) || math.IsInf(m.Max, 0) {
			t.Errorf("%+v", m)
		}
		if m.Unit == turnsPerSecond && m.Min <= 0 {
			t.Errorf("nothing was done: %+v", m)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again Result
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Measures, r.Measures) {
		t.Errorf("measures are %+v after JSON", again.Measures)
	}
	wellFormed(t, r.Plot())
}

func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the picture is not XML: %v\n%s", err, svg)
		}
	}
}

func TestConsume(t *testing.T) {
	cfg := tiny(t)
	cfg.Runs = 1
	said := ""
	cfg.Say = func(line string) { said += line }
	r, err := Consume(t.Context(), ConsumeConfig{
		Config: cfg, Source: Source{Turns: 3000, Sessions: 100}, Batch: 1000, ReplaceTurns: 40,
		TailRate: 200, DocumentRate: 50, For: 300 * time.Millisecond,
	})
	plausible(t, r, err)
	for _, name := range []string{ownConsumer, fetchAck, replaceEach, fileFloor, "afterword / (a)", untilTail + ", p99", untilDocument + ", p99", burstTurns, burstFolded} {
		if m, ok := r.Find(name); !ok || len(m.Runs) != cfg.Runs {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if !strings.Contains(said, "free") {
		t.Errorf("said %q", said)
	}
}

func TestConsumeFile(t *testing.T) {
	cfg := tiny(t)
	cfg.Runs = 1
	file := filepath.Join(t.TempDir(), "talk.jsonl")
	if err := os.WriteFile(file, []byte(`{"session_id":"a/1","user":"hello","assistant":"<&>"}`+"\n\n"+`{"session_id":"b","user":"x","assistant":""}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Consume(t.Context(), ConsumeConfig{Config: cfg, Source: Source{Turns: 500, Files: []string{file}}, ReplaceTurns: -1, For: -1})
	plausible(t, r, err)
	if _, ok := r.Find(replaceEach); ok {
		t.Error("files were replaced")
	}
}

func TestReplay(t *testing.T) {
	r, err := Replay(t.Context(), ReplayConfig{Config: tiny(t), Source: Source{Turns: 2000, Sessions: 100, Active: 30}})
	plausible(t, r, err)
}

func TestPublish(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		cfg := tiny(t)
		cfg.Runs = 1
		r, err := Publish(t.Context(), PublishConfig{
			Config: cfg, Source: Source{Turns: 600, Sessions: 10}, Nodes: nodes, Batch: 100, Rate: 500, For: 200 * time.Millisecond,
		})
		plausible(t, r, err)
	}
}

func TestGrowth(t *testing.T) {
	cfg := tiny(t)
	cfg.Runs = 1
	r, err := Growth(t.Context(), GrowthConfig{Config: cfg, Turns: 1000})
	plausible(t, r, err)
	for _, name := range []string{
		sizeName(turnCost, 1000), historyRedis + ", p99", historyBare + ", p99", historyRedis + " / " + historyBare + ", p99", historyFile + ", p99",
	} {
		if m, ok := r.Find(name); !ok || m.Min <= 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// A stop ends the processes, cleans up, and says that it was one.
func TestStop(t *testing.T) {
	cfg := tiny(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stopped := errors.New("stopped")
	cfg.Progress = func(what string, done, _ int) {
		if strings.Contains(what, ownConsumer) {
			cancel(stopped)
		}
	}
	_, err := Consume(ctx, ConsumeConfig{Config: cfg, Source: Source{Turns: 2000, Sessions: 50}, ReplaceTurns: -1, For: -1})
	if !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
}

func TestNoRoom(t *testing.T) {
	_, err := Replay(t.Context(), ReplayConfig{Config: tiny(t), Source: Source{Turns: 1 << 40, Sessions: 1}})
	if err == nil || !strings.Contains(err.Error(), "free") {
		t.Errorf("got %v", err)
	}
}

func TestSource(t *testing.T) {
	s := Source{Turns: 1003, Sessions: 50, Active: 20, Size: 700}
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	perSession := make(map[string]int)
	for n := range s.Turns {
		snap, err := c.snapshot(n)
		if err != nil {
			t.Fatal(err)
		}
		if size := len(snap.Payload()); size < 600 || size > 800 {
			t.Fatalf("turn %d has %d bytes", n, size)
		}
		perSession[snap.SessionID]++
	}
	for id, n := range perSession {
		if n > 21 {
			t.Errorf("%s has %d turns", id, n)
		}
	}
	if len(perSession) > s.Sessions || len(perSession) < s.Sessions-3 {
		t.Errorf("%d sessions", len(perSession))
	}
	for _, bad := range []Source{{}, {Turns: 1}, {Turns: 1, Sessions: 2}, {Turns: 9, Sessions: 3, Active: 4}, {Turns: 1, Sessions: 1, Size: 10}, {Turns: 1, Files: []string{"nowhere"}}} {
		if _, err := bad.open(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestStatistics(t *testing.T) {
	if got := Median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("median %v", got)
	}
	if got := Median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("median %v", got)
	}
	var took []time.Duration
	for n := 1000; n >= 1; n-- {
		took = append(took, time.Duration(n))
	}
	if got, want := Quantiles(took), (Latencies{500, 950, 990, 999, 1000}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	a, b := measured("a", times, []float64{2, 6}), measured("b", times, []float64{1, 2})
	if m := ratio("a / b", a, b).atLeast(2.5); m.Median != 2.5 || !m.Target.Reached {
		t.Errorf("%+v", m)
	}
	if m := a.atMost(3.9); m.Target.Reached {
		t.Errorf("%+v", m)
	}
}

func TestPlot(t *testing.T) {
	r := Result{Bench: "<&>", Panels: []Panel{
		barsOf("bars & more", measured("a < b", times, []float64{1, 2, 3}), measured("none", times, nil)),
		barsOf("empty"),
		{Title: "lines", Unit: "ms", X: "n", Lines: []Line{{Name: "one", X: []float64{1}, Y: []float64{1}}, {Name: "two", X: []float64{1, 1000}, Y: []float64{0.02, 7}}}},
	}}
	wellFormed(t, r.Plot())
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1234567.4: "1,234,567", 999.6: "1,000", 12.34: "12.3", 1.234: "1.23", 0.01234: "0.012", 7: "7", -12345: "-12,345"} {
		if got := Short(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

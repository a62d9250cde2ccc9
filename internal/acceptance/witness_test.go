package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// shards is how many folders transcripts are spread over.
const shards = 256

// witness is a process that lives through a run, and what it has used over time.
type witness struct {
	s     *service
	began time.Time
	looks []use
}

// use is what a process uses at one moment.
type use struct {
	at                              time.Duration // since it was started
	memory, descriptors, goroutines int           // memory in KiB
	kinds                           map[string]int
}

func newWitness(s *service) *witness { return &witness{s: s, began: time.Now()} }

// look notes what the process uses now.
func (w *witness) look(t *testing.T) {
	t.Helper()
	pid := w.s.cmd.Process.Pid
	u := use{at: time.Since(w.began), memory: statusOf(t, pid, "VmRSS:"), kinds: make(map[string]int)}
	u.goroutines, _ = strconv.Atoi(w.s.metric("go_goroutines"))
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		to, _ := os.Readlink(filepath.Join(dir, e.Name()))
		kind, _, other := strings.Cut(to, ":")
		switch {
		case !other && strings.HasSuffix(to, ".tail"):
			kind = "tail"
		case !other && strings.HasSuffix(to, ".json"):
			kind = "document"
		case !other:
			kind = "file"
			if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.IsDir() {
				kind = "folder"
			}
		}
		u.kinds[kind]++
	}
	u.descriptors = len(entries)
	w.looks = append(w.looks, u)
}

// flat prints what was used over time, in eighths of it. Over the second half of a run
// that is long enough nothing may grow.
func (w *witness) flat(t *testing.T, what string, longEnough time.Duration) {
	t.Helper()
	if len(w.looks) == 0 {
		t.Fatalf("nobody looked at the %s", what)
	}
	last := w.looks[len(w.looks)-1]
	for _, u := range []struct {
		what  string
		of    func(use) int
		slack int // beside a tenth, which is noise
	}{
		{"memory in KiB", func(u use) int { return u.memory }, 16 << 10},
		{"descriptors beside folders", func(u use) int { return u.descriptors - u.kinds["folder"] }, 8},
		{"goroutines", func(u use) int { return u.goroutines }, 16},
	} {
		var all []int
		eighths := make([][]int, 8)
		for _, l := range w.looks {
			at := min(7, int(8*l.at/(last.at+1)))
			eighths[at] = append(eighths[at], u.of(l))
			all = append(all, u.of(l))
		}
		means := make([]int, len(eighths))
		for i, part := range eighths {
			for _, n := range part {
				means[i] += n
			}
			means[i] /= max(1, len(part))
		}
		t.Logf("  %s of the %s: first %d, last %d, most %d; in eighths of the time %d", u.what, what, all[0], all[len(all)-1], slices.Max(all), means)
		third, fourth := (means[4]+means[5])/2, (means[6]+means[7])/2
		if last.at >= longEnough && fourth > third+third/10+u.slack {
			t.Errorf("%s of the %s grew from %d to %d in the second half", u.what, what, third, fourth)
		}
	}
	// Each folder of transcripts stays open from its first use, as many as there are.
	if n := last.kinds["folder"]; n > shards+8 {
		t.Errorf("the %s has %d folders open, of %d", what, n, shards)
	}
	t.Logf("  descriptors of the %s at the end: %v", what, last.kinds)
}

package acceptance

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// observer opens documents all the time, as other programs do, and keeps what
// it never should have seen.
type observer struct {
	dir  string
	stop chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	opened  int // documents read, whole and valid
	tools   int // runs of python3 -m json.tool
	grown   int // times that a document was larger than before
	trouble []error
}

// observe starts readers on a transcripts folder. They end with the test, or
// with [observer.end].
func observe(t *testing.T, dataDir string, readers int) *observer {
	o := &observer{dir: transcripts(dataDir), stop: make(chan struct{})}
	for range readers {
		o.work.Go(o.read)
	}
	if path, err := exec.LookPath("python3"); err == nil {
		o.work.Go(func() { o.json(path) })
	} else {
		t.Log("python3 is not installed; only Go reads along")
	}
	t.Cleanup(o.halt)
	return o
}

func (o *observer) halt() {
	select {
	case <-o.stop:
	default:
		close(o.stop)
	}
	o.work.Wait()
}

// end stops the readers and reports what they saw.
func (o *observer) end(t *testing.T) {
	t.Helper()
	o.halt()
	for i, err := range o.trouble {
		if i == 5 {
			t.Errorf("and %d more", len(o.trouble)-i)
			break
		}
		t.Error(err)
	}
	t.Logf("readers: %d documents opened with encoding/json and as the older format, %d times one had grown, %d with python3 -m json.tool; %d were torn or smaller than before",
		o.opened, o.grown, o.tools, len(o.trouble))
	if o.opened == 0 || o.grown == 0 {
		t.Error("the readers saw nothing happen")
	}
}

func (o *observer) stopped() bool {
	select {
	case <-o.stop:
		return true
	default:
		return false
	}
}

// read goes round all documents. A turn that was in one stays in it.
func (o *observer) read() {
	seen := make(map[string]map[string]int) // by document: revisions by id
	for !o.stopped() {
		names, err := listFiles(o.dir)
		if err != nil && len(names) > 0 {
			o.note(0, 0, fmt.Errorf("list documents: %w", err))
		}
		opened, grown := 0, 0
		for _, name := range names {
			if !isDocument(name) || o.stopped() {
				continue
			}
			d, err := readDocument(filepath.Join(o.dir, name))
			if err != nil {
				o.note(opened, grown, fmt.Errorf("%s: %w", name, err))
				continue
			}
			opened++
			now := make(map[string]int, len(d.Messages))
			for _, m := range d.Messages {
				now[m.ID] = m.Rev
			}
			for id, rev := range seen[name] {
				if now[id] < rev {
					o.note(0, 0, fmt.Errorf("%s has shrunk: turn %s was there with rev %d, and is now with %d", name, id, rev, now[id]))
				}
			}
			if len(now) > len(seen[name]) {
				grown++
			}
			seen[name] = now
		}
		o.note(opened, grown, nil)
		o.pause(5 * time.Millisecond) // leaves the machine to those who are observed
	}
}

func (o *observer) json(python string) {
	for i := 0; !o.stopped(); i++ {
		names, _ := listFiles(o.dir)
		for _, name := range names {
			if !isDocument(name) || o.stopped() {
				continue
			}
			out, err := exec.Command(python, "-m", "json.tool", filepath.Join(o.dir, name)).CombinedOutput()
			o.mu.Lock()
			if o.tools++; err != nil {
				o.trouble = append(o.trouble, fmt.Errorf("python3 -m json.tool %s: %w: %s", name, err, out))
			}
			o.mu.Unlock()
			o.pause(300 * time.Millisecond)
		}
		o.pause(300 * time.Millisecond)
	}
}

func (o *observer) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-o.stop:
	case <-timer.C:
	}
}

func (o *observer) note(opened, grown int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened += opened
	o.grown += grown
	if err != nil {
		o.trouble = append(o.trouble, err)
	}
}

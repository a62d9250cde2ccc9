package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// observer opens documents all the time, as other programs do, and keeps what
// it never should have seen.
type observer struct {
	dir  string
	of   func() []string // paths of documents; nil looks for them
	stop chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	opened  int // documents read, whole and valid
	asked   int // transcripts and histories over HTTP, whole and valid
	tools   int // documents read with python3 -m json.tool
	grown   int // times that a document was larger than before
	trouble []error
}

// observe starts readers on a transcripts folder. They end with the test, or
// with [observer.end].
func observe(t *testing.T, dataDir string, readers int) *observer {
	return observeOnly(t, dataDir, readers, nil)
}

// observeOnly is observe of the documents that of names at the time.
func observeOnly(t *testing.T, dataDir string, readers int, of func() []string) *observer {
	o := &observer{dir: transcripts(dataDir), of: of, stop: make(chan struct{})}
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
	t.Logf("readers: %d documents opened with encoding/json and as the older format, %d times one had grown, %d with python3 -m json.tool, %d transcripts and histories over HTTP; %d were torn or smaller than before",
		o.opened, o.grown, o.tools, o.asked, len(o.trouble))
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

// view is what one reader has seen of a document, by which it judges the next look.
type view struct {
	raw  []byte         // as it was last read, whole and valid
	revs map[string]int // revisions by id
}

// look judges a document that was read. The same bytes as before are as good as they were.
func (v *view) look(raw []byte) (grown bool, err error) {
	if len(raw) > 0 && bytes.Equal(raw, v.raw) {
		return false, nil
	}
	d, err := parseDocument(raw)
	if err != nil {
		return false, err
	}
	now := make(map[string]int, len(d.Messages))
	for _, m := range d.Messages {
		now[m.ID] = m.Rev
	}
	for id, rev := range v.revs {
		if now[id] < rev {
			err = fmt.Errorf("has shrunk: turn %s was there with rev %d, and is now with %d", id, rev, now[id])
		}
	}
	grown = len(now) > len(v.revs)
	v.raw, v.revs = raw, now
	return grown, err
}

// read goes round all documents. A turn that was in one stays in it.
func (o *observer) read() {
	seen := make(map[string]*view)
	for !o.stopped() {
		opened, grown := 0, 0
		for _, path := range o.paths() {
			if o.stopped() {
				break
			}
			v := seen[path]
			if v == nil {
				v = new(view)
				seen[path] = v
			}
			raw, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) && v.raw == nil {
				continue
			}
			larger := false
			if err == nil {
				larger, err = v.look(raw)
			}
			if err != nil {
				o.note(0, 0, fmt.Errorf("%s: %w", filepath.Base(path), err))
				continue
			}
			opened++
			if larger {
				grown++
			}
		}
		o.note(opened, grown, nil)
		o.pause(5 * time.Millisecond) // leaves the machine to those who are observed
	}
}

// paths are those of the documents to read.
func (o *observer) paths() (paths []string) {
	if o.of != nil {
		return o.of()
	}
	names, err := listFiles(o.dir)
	if err != nil && len(names) > 0 {
		o.note(0, 0, fmt.Errorf("list documents: %w", err))
	}
	for _, name := range names {
		if isDocument(name) {
			paths = append(paths, filepath.Join(o.dir, name))
		}
	}
	return paths
}

// ask starts a reader of transcripts and histories over HTTP. An answer that does not
// come, or that says it cannot be given now, is no reading; one that does is whole. A
// transcript has what the same gateway has shown before: one that starts may find in the
// file less than another found in the stream, before there was a file.
func (o *observer) ask(gateway func() *api, sessions func() []string) {
	o.work.Go(func() {
		seen := make(map[string]*view)
		var from *api
		for !o.stopped() {
			asked := 0
			if g := gateway(); g != from {
				from = g
				clear(seen)
			}
			for _, session := range sessions() {
				if o.stopped() {
					break
				}
				if seen[session] == nil {
					seen[session] = new(view)
				}
				for what, judge := range map[string]func([]byte) error{
					"transcript": func(body []byte) error { _, err := seen[session].look(body); return err },
					"history":    func(body []byte) error { return wholeHistory(session, body) },
				} {
					status, body, err := from.get("/v1/sessions/" + url.PathEscape(session) + "/" + what)
					if err != nil || status != http.StatusOK {
						continue
					}
					if err := judge(body); err != nil {
						o.note(0, 0, fmt.Errorf("GET %s of %s: %w", what, session, err))
						continue
					}
					asked++
				}
			}
			o.mu.Lock()
			o.asked += asked
			o.mu.Unlock()
			o.pause(5 * time.Millisecond)
		}
	})
}

// wholeHistory judges a history alone: turns of the session, in order, each with its own answer.
func wholeHistory(session string, body []byte) error {
	var h struct {
		SessionID string `json:"session_id"`
		Turns     []struct{ ID, Timestamp, User, Assistant string }
	}
	if err := json.Unmarshal(body, &h); err != nil {
		return fmt.Errorf("torn: %w", err)
	}
	if h.SessionID != session {
		return fmt.Errorf("is of session %q", h.SessionID)
	}
	last := ""
	for _, w := range h.Turns {
		order := w.Timestamp + " " + w.ID
		if order <= last || w.Assistant != answerTo(w.User) || !strings.Contains(w.User, session) {
			return fmt.Errorf("turn %s is out of order or not what was said", w.ID)
		}
		last = order
	}
	return nil
}

// answerTo is the answer to a question, for who has to judge a turn alone.
func answerTo(question string) string { return "answer to " + question }

func (o *observer) json(python string) {
	tool, err := startJSONTool(python)
	if err != nil {
		o.note(0, 0, err)
		return
	}
	defer tool.close()
	for !o.stopped() {
		for _, path := range o.paths() {
			if _, err := os.Stat(path); err != nil || o.stopped() {
				continue
			}
			_, err := tool.read(path)
			o.mu.Lock()
			if o.tools++; err != nil {
				o.trouble = append(o.trouble, fmt.Errorf("python3 -m json.tool %s: %w", filepath.Base(path), err))
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

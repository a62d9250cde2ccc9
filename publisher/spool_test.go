package publisher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// spooling starts a publisher with a spool.
func (w *world) spooling(dir string, set func(*publisher.Config)) *publisher.Publisher {
	w.t.Helper()
	return w.publisher(func(c *publisher.Config) {
		c.SpoolDir = dir
		if set != nil {
			set(c)
		}
	})
}

func spoolDir(t *testing.T) string { return filepath.Join(t.TempDir(), "spool") }

// segments are the files in a spool, those set aside among them.
func segments(t *testing.T, dir string) (names, aside []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.Contains(name, ".seg.corrupt-"):
			aside = append(aside, name)
		case strings.HasSuffix(name, ".seg"):
			names = append(names, name)
		}
	}
	return names, aside
}

func publishN(t *testing.T, p *publisher.Publisher, n int) (rs []*publisher.Receipt, keys []string) {
	t.Helper()
	for i := range n {
		session := fmt.Sprint("s", i%7)
		r := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: session, User: fmt.Sprint("question ", i)}))
		rs, keys = append(rs, r), append(keys, key(session, r.ID, r.Rev))
	}
	return rs, keys
}

func waitLevel(t *testing.T, level publisher.Level, rs ...*publisher.Receipt) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, r := range rs {
		if err := r.Wait(ctx, level); err != nil {
			t.Fatal(err)
		}
	}
}

// leave closes a publisher that cannot store what it has.
func leave(t *testing.T, p *publisher.Publisher) *publisher.LeftError {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var left *publisher.LeftError
	if err := p.Close(ctx); !errors.As(err, &left) {
		t.Fatalf("close: %v", err)
	}
	return left
}

// While the stream is down turns go to disk, and the next process publishes them.
func TestSpoolIsResumed(t *testing.T) {
	w := newStreamWorld(t)
	dir := spoolDir(t)
	w.srv.Stop()
	p := w.spooling(dir, nil)
	rs, keys := publishN(t, p, 500)
	waitLevel(t, publisher.Spooled, rs...)
	if level, ok := p.Level("s0", rs[0].ID, 1); !ok || level != publisher.Spooled {
		t.Errorf("level %v, %v", level, ok)
	}
	s := p.Stats()
	if s.Spool.Turns != 500 || s.Spool.Bytes == 0 || s.Spool.Segments != 1 || s.Spool.Syncs == 0 || s.Spool.SyncTime == 0 || s.Spool.Blocked != 0 ||
		s.Spool.Oldest <= 0 || s.Spool.Oldest > s.Oldest+time.Minute || s.Spool.MaxBytes != publisher.DefaultSpoolMaxBytes {
		t.Errorf("%+v", s)
	}
	if left := leave(t, p); left.Turns != 500 || left.Spooled != 500 || !strings.Contains(left.Error(), "all of them are spooled") {
		t.Errorf("%v", left)
	}
	w.checkModes(dir)

	p = w.spooling(dir, nil)
	servertest.Eventually(t, patience, "the spool to be read", func() bool { return p.Stats().Spool.Turns == 500 })
	servertest.Eventually(t, patience, "them to be pending again", func() bool {
		n := 0
		for i := range 7 {
			n += len(p.Pending(fmt.Sprint("s", i)))
		}
		return n == 500
	})
	if level, ok := p.Level("s0", rs[0].ID, 1); !ok || level != publisher.Spooled {
		t.Errorf("after the restart: level %v, %v", level, ok)
	}
	// A clock that went back does not put later turns before those.
	last := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s0", User: "later"}))
	for _, s := range p.Pending("s0") {
		if s.ID != last.ID && s.Timestamp >= last.Timestamp {
			t.Errorf("a new turn is at %v, an earlier one at %v", last.Timestamp, s.Timestamp)
		}
	}
	w.srv.Restart()
	closeNow(t, p)
	w.checkOnce(append(keys, key("s0", last.ID, 1)))
	if names, aside := segments(t, dir); len(names)+len(aside) > 0 {
		t.Errorf("left behind: %v %v", names, aside)
	}
}

// checkModes checks that nobody else may look into the spool.
func (w *world) checkModes(dir string) {
	w.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			w.t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// In an outage that is longer than the buffer, turns leave memory and come back;
// the receipts that callers keep are raised all the same.
func TestSpoolHoldsMoreThanTheBuffer(t *testing.T) {
	w := newStreamWorld(t)
	dir := spoolDir(t)
	w.srv.Stop()
	const buffer, turns = 64, 1500
	p := w.spooling(dir, func(c *publisher.Config) { c.BufferTurns = buffer })
	var rs []*publisher.Receipt
	var keys []string
	publish := func(n int) {
		for i := 0; i < n; {
			session := fmt.Sprint("s", i%7)
			r, err := p.Publish(t.Context(), transcript.Turn{SessionID: session, User: fmt.Sprint("question ", i)})
			if errors.Is(err, publisher.ErrOverflow) { // faster than the disk
				servertest.Eventually(t, patience, "room", func() bool { return p.Stats().InMemory < buffer })
				continue
			}
			if rs = append(rs, must(t)(r, err)); i%2 == 0 {
				rs = rs[:len(rs)-1] // nobody waits for this one
			}
			keys = append(keys, key(session, r.ID, r.Rev))
			i++
		}
	}
	publish(turns)
	waitLevel(t, publisher.Spooled, rs...)
	servertest.Eventually(t, patience, "turns to leave memory", func() bool {
		s := p.Stats()
		return s.InMemory <= buffer && s.Spool.Away >= turns-buffer && s.Turns == turns && s.Spool.Turns == turns
	})
	if s := p.Stats(); s.Accepted != turns || s.Oldest == 0 {
		t.Errorf("%+v", s)
	}
	w.srv.Restart()
	publish(turns / 3) // while it is read back
	waitStored(t, rs...)
	closeNow(t, p)
	if s := p.Stats(); s.Turns != 0 || s.Bytes != 0 || s.Spool.Turns != 0 || s.Spool.Away != 0 || s.Spool.Bytes != 0 || s.Spool.Segments != 0 {
		t.Errorf("%+v", s)
	}
	w.checkOnce(keys)
}

// A full spool leaves the buffer, and then Publish refuses. It heals by itself.
func TestSpoolIsBounded(t *testing.T) {
	w := newStreamWorld(t)
	dir := spoolDir(t)
	w.srv.Stop()
	const buffer, most = 50, 64 << 10
	var lines syncBuffer
	p := w.spooling(dir, func(c *publisher.Config) {
		c.BufferTurns, c.MaxPayload, c.SpoolMaxBytes = buffer, 4<<10, most
		c.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	})
	var keys []string
	accept := func() error {
		r, err := p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: strings.Repeat("q", 300)})
		if err == nil {
			keys = append(keys, key("s", r.ID, r.Rev))
		}
		return err
	}
	servertest.Eventually(t, patience, "both to be full", func() bool {
		for accept() == nil {
		}
		return p.Stats().Spool.Blocked > 0
	})
	servertest.Eventually(t, patience, "the last room in memory", func() bool {
		for accept() == nil {
		}
		return p.Stats().InMemory == buffer
	})
	if err := accept(); !errors.Is(err, publisher.ErrOverflow) {
		t.Errorf("full: %v", err)
	}
	s := p.Stats()
	if s.Spool.Bytes > most || s.Spool.Bytes < most/2 || s.Turns != len(keys) || s.Turns < 100 || s.Spool.Away == 0 {
		t.Errorf("%+v", s)
	}
	if n := strings.Count(lines.String(), "the spool is full"); n != 1 {
		t.Errorf("said %d times", n)
	}
	w.srv.Restart()
	servertest.Eventually(t, patience, "room", func() bool { return accept() == nil })
	closeNow(t, p)
	if s := p.Stats(); s.Spool.Blocked != 0 {
		t.Errorf("healed: %+v", s)
	}
	w.checkOnce(keys)
}

// spoolOf leaves a spool with n turns, each in a segment of its own or all in one.
func (w *world) spoolOf(dir string, n int, apart bool) (keys []string) {
	w.t.Helper()
	w.srv.Stop()
	p := w.spooling(dir, func(c *publisher.Config) {
		if apart {
			c.MaxPayload, c.SpoolMaxBytes = 400, 4000
		}
	})
	for i := range n {
		r := must(w.t)(p.Publish(w.t.Context(), transcript.Turn{SessionID: "s", User: fmt.Sprint("question ", i, strings.Repeat("x", 150))}))
		waitLevel(w.t, publisher.Spooled, r)
		keys = append(keys, key("s", r.ID, r.Rev))
	}
	leave(w.t, p)
	return keys
}

// What a crash cut short is cut off; all before it is published.
func TestTornEndOfTheSpool(t *testing.T) {
	w := newStreamWorld(t)
	for _, torn := range []string{"0123abcd {\"id\":\"torn", "x", "0123abcd "} {
		dir := spoolDir(t)
		keys := w.spoolOf(dir, 10, false)
		names, _ := segments(t, dir)
		f, err := os.OpenFile(filepath.Join(dir, names[0]), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		f.Close()
		p := w.spooling(dir, nil)
		servertest.Eventually(t, patience, "the spool to be read", func() bool { return p.Stats().Spool.Turns == 10 })
		whole, err := os.ReadFile(filepath.Join(dir, names[0]))
		if err != nil || whole[len(whole)-1] != '\n' {
			t.Errorf("not cut off: %q, %v", whole[len(whole)-20:], err)
		}
		w.srv.Restart()
		closeNow(t, p)
		if s := p.Stats(); s.Spool.SetAside != 0 || s.Spool.Lost != 0 {
			t.Errorf("%+v", s)
		}
		w.checkOnce(keys)
		if names, aside := segments(t, dir); len(names)+len(aside) > 0 {
			t.Errorf("left behind: %v %v", names, aside)
		}
		w.purge()
	}
}

// A segment with a bad line is set aside, and everything else is published.
func TestDamagedSegmentIsSetAside(t *testing.T) {
	w := newStreamWorld(t)
	for name, damage := range map[string]func([]byte) []byte{
		"bit flip":         func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"newline lost":     func(b []byte) []byte { b[bytes.IndexByte(b, '\n')] = ' '; return b },
		"garbage in front": func(b []byte) []byte { return append([]byte("garbage\n"), b...) },
		"zeros":            func(b []byte) []byte { clear(b[10:600]); return b },
		"not a turn":       func(b []byte) []byte { return append([]byte("c1a2d4e0 {}\n"), b...) },
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t, srv: w.srv, js: w.js}
			dir := spoolDir(t)
			keys := w.spoolOf(dir, 20, false)
			names, _ := segments(t, dir)
			path := filepath.Join(dir, names[0])
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = damage(data)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			var lines syncBuffer
			p := w.spooling(dir, func(c *publisher.Config) { c.Logger = slog.New(slog.NewTextHandler(&lines, nil)) })
			w.srv.Restart()
			servertest.Eventually(t, patience, "the segment to be set aside", func() bool {
				_, aside := segments(t, dir)
				return len(aside) == 1
			})
			closeNow(t, p)
			s := p.Stats()
			got := w.stored()
			lost := 0
			for _, k := range keys {
				if got[k] == 0 {
					lost++
				}
			}
			if s.Spool.SetAside != 1 || s.Spool.Lost == 0 || lost > 4 || lost > 0 && strings.HasSuffix(name, "front") {
				t.Errorf("%d of %d are not stored: %+v", lost, len(keys), s)
			}
			if !strings.Contains(lines.String(), "damaged") || !strings.Contains(lines.String(), names[0]) {
				t.Errorf("log:\n%s", lines.String())
			}
			names, aside := segments(t, dir)
			kept, err := os.ReadFile(filepath.Join(dir, aside[0]))
			if err != nil || !bytes.Equal(kept, data) || len(names) != 0 {
				t.Errorf("kept %d bytes of %d, %v; %v", len(kept), len(data), err, names)
			}
			// The next one starts as if nothing had been, and under another name.
			next := w.spooling(dir, nil)
			must(t)(next.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"}))
			closeNow(t, next)
			if s := next.Stats(); s.Spool.SetAside != 0 {
				t.Errorf("%+v", s)
			}
			w.purge()
		})
	}
}

// A line that goes bad while it is not in memory is found when it is read back.
func TestDamageOfWhatLeftMemory(t *testing.T) {
	w := newStreamWorld(t)
	dir := spoolDir(t)
	w.srv.Stop()
	const turns = 400
	p := w.spooling(dir, func(c *publisher.Config) { c.BufferTurns = 40; c.Window = 8 })
	var rs []*publisher.Receipt
	for len(rs) < turns {
		r, err := p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "question"})
		if errors.Is(err, publisher.ErrOverflow) {
			servertest.Eventually(t, patience, "room", func() bool { return p.Stats().InMemory < 40 })
			continue
		}
		rs = append(rs, must(t)(r, err))
	}
	servertest.Eventually(t, patience, "turns to leave memory", func() bool { return p.Stats().Spool.Away > turns/2 })
	names, _ := segments(t, dir)
	path := filepath.Join(dir, names[0])
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := rs[turns/2]
	data[bytes.Index(data, []byte(damaged.ID))] ^= 1
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	w.srv.Restart()
	waitStored(t, slices.DeleteFunc(slices.Clone(rs), func(r *publisher.Receipt) bool { return r == damaged })...)
	if damaged.Level() != publisher.Spooled || damaged.Err() == nil {
		t.Errorf("the damaged one: %v %v", damaged.Level(), damaged.Err())
	}
	closeNow(t, p)
	if _, aside := segments(t, dir); len(aside) != 1 || p.Stats().Spool.Lost != 1 {
		t.Errorf("%v %+v", aside, p.Stats())
	}
}

// A folder that cannot be used is an error at once, which says what to do.
func TestSpoolFolders(t *testing.T) {
	w := newStreamWorld(t)
	refused := func(dir, says string) {
		t.Helper()
		_, err := publisher.New(publisher.Config{Conn: w.js.Conn(), SpoolDir: dir})
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", dir, err, says)
		}
	}
	dir := spoolDir(t)
	p := w.spooling(dir, nil)
	refused(dir, "another publisher uses it: each needs a folder of its own")
	closeNow(t, p)
	closeNow(t, w.spooling(dir, nil))

	base := t.TempDir()
	link := filepath.Join(base, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	refused(link, "symbolic link")
	open := filepath.Join(base, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	refused(open, "chmod it to 0700")
	for _, name := range []string{".lock", "000000000001.seg"} {
		dir := filepath.Join(base, "with"+name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("elsewhere", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		refused(dir, name+" is not a regular file")
		if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
			t.Error("the link was followed")
		}
	}
	if _, err := publisher.New(publisher.Config{Conn: w.js.Conn(), SpoolDir: dir, SpoolMaxBytes: 1000}); err == nil || !strings.Contains(err.Error(), "SpoolMaxBytes") {
		t.Errorf("a spool too small: %v", err)
	}
}

// A stream that takes turns at once leaves nothing on disk.
func TestSpoolOfAHealthyStream(t *testing.T) {
	w := newStreamWorld(t)
	dir := spoolDir(t)
	p := w.spooling(dir, nil)
	l := startLoad(p, 4, 200, time.Millisecond)
	servertest.Eventually(t, patience, "turns", func() bool { return l.count() > 2000 })
	accepted := l.finish(t)
	servertest.Eventually(t, patience, "the spool to be empty", func() bool {
		s := p.Stats()
		return s.Turns == 0 && s.Spool.Bytes == 0
	})
	t.Logf("%+v", p.Stats())
	closeNow(t, p)
	w.checkOnce(accepted)
}

package publisher

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

const (
	// spoolAfter is how old a turn is when it is spooled: most are stored by then, and
	// cost no disk. It also gathers turns under one fsync.
	spoolAfter = 5 * time.Millisecond
	// spoolIdle is how long the last segment keeps turns that are all stored.
	spoolIdle = time.Second

	groupTurns = 1000 // under one fsync
	groupBytes = 1 << 20
	emptyFrom  = 256 << 10 // from here on a segment is emptied once its turns are stored
)

// spool keeps on disk what is not stored yet. Everything in it belongs to one
// goroutine, which alone touches the disk: when that hangs, only the spool does. The
// buffer is the seam to Publish and to the sender, who never wait for it.
type spool struct {
	cfg     *Config
	log     *slog.Logger
	buffer  *buffer
	observe func(session string, at transcript.Instant)
	started time.Time

	wake     chan struct{}
	opened   chan error    // one, when the folder is open or cannot be
	stop     chan struct{} // closed: write what is left and end
	stopOnce sync.Once
	ended    chan struct{}

	root       *os.Root
	lock       *os.File
	leftover   []string // segments of an earlier process, not looked at yet
	number     uint64   // of the last segment
	segments   []*segment
	current    *segment // the last one, while it may be written; nil between two
	group      []*entry // taken to be written
	buf        []byte
	lastWrite  time.Time
	full       bool
	writes     trouble
	reads      trouble
	segmentMax int64
	loadTurns  int
	loadBytes  int64

	counts spoolCounts
}

// spoolCounts is what the spool tells others.
type spoolCounts struct {
	bytes, segments                   atomic.Int64
	unread                            atomic.Int64 // segments of an earlier process that were not looked at yet
	syncs, failures, setAside, damage atomic.Uint64
	lates                             atomic.Uint64
	syncTime                          atomic.Int64
	busy                              atomic.Int64 // when the file operation under way began, in ns since started; 0 when there is none
	failing                           atomic.Int64 // since when writing fails, likewise
	fullSince                         atomic.Int64 // since when there is no room, likewise
	late                              atomic.Bool  // it is known that the disk does not answer
	unawaited                         atomic.Bool  // nobody hears how opening the folder ends
}

// trouble is a disk that fails, and when it is tried again.
type trouble struct {
	backoff *backoff.ExponentialBackOff
	since   time.Time // zero while there is none
	until   time.Time
}

// fail reports whether this is the first failure.
func (t *trouble) fail(now time.Time, most time.Duration) (first bool) {
	if first = t.since.IsZero(); first {
		t.since = now
		t.backoff.Reset()
	}
	t.until = now.Add(min(t.backoff.NextBackOff(), most))
	return first
}

func newSpool(cfg *Config, b *buffer, observe func(string, transcript.Instant)) *spool {
	s := &spool{
		cfg: cfg, log: cfg.Logger.With("spool", cfg.SpoolDir), buffer: b, observe: observe, started: time.Now(),
		wake: make(chan struct{}, 1), opened: make(chan error, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		writes: trouble{backoff: cfg.backoff()}, reads: trouble{backoff: cfg.backoff()},
		segmentMax: min(maxSegment, max(cfg.SpoolMaxBytes/segmentsAtFull, int64(cmp.Or(cfg.MaxPayload, transcript.MaxPayload)))),
		loadTurns:  max(1, min(2*cfg.Window, cfg.BufferTurns/4)),
		loadBytes:  max(1, min(maxSegment, cfg.BufferBytes/4)),
	}
	b.spool = s
	return s
}

// start opens the folder. A disk that does not answer in time holds nobody up: the
// spool begins when it does.
func (s *spool) start() error {
	go s.run()
	timer := time.NewTimer(s.cfg.SpoolTimeout)
	defer timer.Stop()
	select {
	case err := <-s.opened:
		return err
	case <-timer.C:
		s.counts.unawaited.Store(true)
		s.late()
		s.log.Error("the spool's disk does not answer, turns are only buffered until it does", "for", s.cfg.SpoolTimeout)
		return nil
	}
}

// run is the spool's goroutine.
func (s *spool) run() {
	defer close(s.ended)
	defer s.shut()
	var err error
	s.op(func() { err = s.open() })
	s.opened <- err
	if err != nil {
		if s.counts.unawaited.Load() {
			s.log.Error("the spool cannot be opened, turns are only buffered", "error", err)
		}
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := s.step(time.Now())
		timer.Reset(wait)
		select {
		case <-s.stop:
			s.flush()
			return
		default:
		}
		select {
		case <-s.stop:
			s.flush()
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// step does one round of what there is to do, and returns how long nothing more can
// be done unless something happens.
func (s *spool) step(now time.Time) (wait time.Duration) {
	s.reclaim(now)
	wait = s.write(now)
	for s.buffer.unload() {
	}
	if !now.Before(s.reads.until) && s.recover(now) || s.load(now) {
		return 0
	}
	if len(s.leftover) > 0 {
		wait = min(wait, max(0, s.reads.until.Sub(now)))
	}
	if s.current != nil && s.current.size > 0 {
		wait = min(wait, spoolIdle)
	}
	return wait
}

// flush spools what is still only buffered, at the end.
func (s *spool) flush() {
	now := time.Now().Add(spoolAfter) // no turn is too young
	s.writes.until = time.Time{}
	s.reclaim(now)
	for s.write(now) == 0 && s.writes.since.IsZero() {
		s.reclaim(now)
	}
	s.lastWrite = time.Time{}
	s.reclaim(now)
}

// shut closes everything, and with it gives up the folder's lock.
func (s *spool) shut() {
	if s.current != nil && s.current.size == 0 {
		s.remove(s.current)
	}
	s.seal()
	if s.lock != nil {
		s.lock.Close()
	}
	if s.root != nil {
		s.root.Close()
	}
}

// close ends the spool and waits for it until ctx ends. A hung disk is not waited for.
func (s *spool) close(ctx context.Context) {
	s.stopOnce.Do(func() { close(s.stop) })
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
}

func (s *spool) hurry() { signal(s.wake) }

// op runs file operations, and lets others see how long they take.
func (s *spool) op(fn func()) {
	s.counts.busy.Store(max(1, int64(time.Since(s.started))))
	fn()
	if s.busyFor(time.Now()) > s.cfg.SpoolTimeout {
		s.late()
	}
	s.counts.busy.Store(0)
	if s.counts.late.CompareAndSwap(true, false) {
		s.log.Info("the spool's disk answers again")
	}
}

// failed notes that the disk could not be written.
func (s *spool) failed(op string, err error, now time.Time) {
	s.counts.failures.Add(1)
	if s.writes.fail(now, s.cfg.RetryMax) {
		s.counts.failing.Store(max(1, int64(now.Sub(s.started))))
		s.log.Error("the spool cannot be written, turns are only buffered until it can", "op", op, "error", err)
	}
}

// wrote notes that the disk could be written.
func (s *spool) wrote(now time.Time) {
	if !s.writes.since.IsZero() {
		s.log.Info("the spool can be written again", "after", now.Sub(s.writes.since).Round(time.Millisecond))
		s.writes.since, s.writes.until = time.Time{}, time.Time{}
		s.counts.failing.Store(0)
	}
}

// late counts, once, that the disk does not answer. It reports whether this was the first to see it.
func (s *spool) late() bool {
	if !s.counts.late.CompareAndSwap(false, true) {
		return false
	}
	s.counts.lates.Add(1)
	return true
}

// notice says once that the disk does not answer. The sender calls it now and then.
func (s *spool) notice() {
	if busy := s.busyFor(time.Now()); busy > s.cfg.SpoolTimeout && s.late() {
		s.log.Error("the spool's disk does not answer, turns are only buffered until it does", "for", busy.Round(time.Millisecond))
	}
}

func (s *spool) busyFor(now time.Time) time.Duration {
	if at := s.counts.busy.Load(); at > 0 {
		return now.Sub(s.started) - time.Duration(at)
	}
	return 0
}

// wants reports whether more turns should be read back. It runs under the buffer's lock.
func (s *spool) wants(ready *queue) bool {
	return ready.turns == 0 || ready.turns < s.loadTurns/2 && ready.bytes < s.loadBytes/2
}

// SpoolStats is the state of a publisher's spool.
type SpoolStats struct {
	// Now.
	Turns    int           // spooled and not stored
	Away     int           // of these, those that are not in memory
	Bytes    int64         // of its files
	Segments int           // files
	Blocked  time.Duration // how long nothing could be spooled; 0 while turns can
	Oldest   time.Duration // since the oldest of its turns was accepted, or a little longer
	MaxBytes int64         // what it may hold

	// Since the start.
	Syncs    uint64
	SyncTime time.Duration
	Failures uint64 // file operations that failed
	SetAside uint64 // segments with lines that could not be read
	Lost     uint64 // lines that could not be read
	Late     uint64 // times that the disk took longer than SpoolTimeout to answer
}

func (s *spool) stats(now time.Time) SpoolStats {
	c := &s.counts
	st := SpoolStats{
		Bytes: c.bytes.Load(), MaxBytes: s.cfg.SpoolMaxBytes, Segments: int(c.segments.Load()),
		Syncs: c.syncs.Load(), SyncTime: time.Duration(c.syncTime.Load()),
		Failures: c.failures.Load(), SetAside: c.setAside.Load(), Lost: c.damage.Load(), Late: c.lates.Load(),
	}
	if busy := s.busyFor(now); busy > s.cfg.SpoolTimeout {
		st.Blocked = busy
	}
	for _, since := range [...]int64{c.failing.Load(), c.fullSince.Load()} {
		if since > 0 {
			st.Blocked = max(st.Blocked, now.Sub(s.started)-time.Duration(since))
		}
	}
	return st
}

// LeftError says what a publisher left when it was closed.
type LeftError struct {
	Turns   int   // accepted and not stored
	Bytes   int64 // of their payloads
	Spooled int   // of these turns, those that are on disk and published at the next start
	Cause   error
}

func (e *LeftError) Error() string {
	text := fmt.Sprintf("close publisher: %s (%s) %s not stored", plural.Of(e.Turns, "turn"), plural.Of(e.Bytes, "byte"), plural.Were(e.Turns))
	switch e.Spooled {
	case 0:
	case e.Turns:
		text += "; " + plural.Verb(e.Turns, "it is spooled", "all of them are spooled") + ", for the next start to publish"
	default:
		text += fmt.Sprintf("; %d of them %s spooled, for the next start to publish", e.Spooled, plural.Are(e.Spooled))
	}
	return text + ": " + e.Cause.Error()
}

func (e *LeftError) Unwrap() error { return e.Cause }

package consumer

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

// readable counts the turns that a store has for sessions.
func readable(t *testing.T, store *transcript.Store, sessions map[string]bool) (n int64) {
	t.Helper()
	for s := range sessions {
		doc, err := store.Read(t.Context(), s)
		switch {
		case errors.Is(err, transcript.ErrNoSession):
		case err != nil:
			t.Fatal(err)
		default:
			n += int64(doc.Len())
		}
	}
	return n
}

// unacknowledged checks that no turn was acknowledged that cannot be read.
func (f *fixture) unacknowledged(store *transcript.Store, turns []transcript.Snapshot) {
	f.t.Helper()
	sessions := make(map[string]bool)
	for i := range turns {
		sessions[turns[i].SessionID] = true
	}
	cons, err := f.js.Consumer(f.t.Context(), stream.Turns, DefaultGroup)
	if err != nil {
		f.t.Fatal(err)
	}
	info := cons.CachedInfo()
	acked := int64(info.Delivered.Stream) - int64(info.NumAckPending)
	if n := readable(f.t, store, sessions); n < acked { // every turn here has one revision
		f.t.Errorf("%d turns are acknowledged and %d can be read", acked, n)
	}
}

// plain makes turns of one revision each.
func plain(t *testing.T, sessions, turns int) (all []transcript.Snapshot) {
	t.Helper()
	for n := range turns {
		for s := range sessions {
			all = append(all, makeTurn(t, "chat/"+string(rune('a'+s)), n, 1))
		}
	}
	return all
}

// A disk without a free inode takes no new session. Nothing is acknowledged that
// is not there, and everything heals by itself.
func TestNoInodes(t *testing.T) {
	disk := faults.Small(t, 16<<20, 40).Dir()
	f := newFixture(t)
	dir := filepath.Join(disk, "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	c, stop := f.start(Config{Store: store, ProbeMax: 500 * time.Millisecond})
	f.ready(c) // it has joined its group, which writes a file too
	var ballast []string
	for i := 0; ; i++ {
		path := filepath.Join(disk, "ballast"+string(rune('a'+i)))
		if err := os.WriteFile(path, nil, 0o600); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ballast = append(ballast, path)
	}
	turns := plain(t, 10, 6)
	f.publish(turns...)
	servertest.Eventually(t, 20*time.Second, "fetching stops", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "no space left")
	})
	f.unacknowledged(store, turns)
	for _, path := range ballast {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	f.drained(DefaultGroup)
	f.ready(c)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

// A disk that hangs holds up nothing on another one.
func TestHungDiskLeavesOthersAlone(t *testing.T) {
	disk, hang, resume := loopDisk(t)
	f := newFixture(t)
	hungDir, dir := filepath.Join(disk, "transcripts"), filepath.Join(t.TempDir(), "transcripts")
	hung, err := transcript.Open(transcript.Config{Dir: hungDir, FileTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	store := f.store(dir)
	turns := conversation(t, 4, 30)
	f.publish(turns[:40]...)
	c, stopHung := f.start(Config{Store: hung, Group: "hung", ProbeMax: 500 * time.Millisecond})
	other, stop := f.start(Config{Store: store})
	f.drained("hung")
	f.drained(DefaultGroup)
	hang()
	f.publish(turns[40:]...)
	f.drained(DefaultGroup)
	servertest.Eventually(t, 20*time.Second, "fetching stops on the hung disk", func() bool { return c.Ready() != nil })
	if err := other.Ready(); err != nil || other.Stats().Pauses != 0 {
		t.Errorf("the other disk: %v, %+v", err, other.Stats())
	}
	resume()
	f.drained("hung")
	for _, end := range []func() error{stopHung, stop, func() error { return hung.Close(t.Context()) }, func() error { return store.Close(t.Context()) }} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	want := undisturbed(t, turns)
	sameDocuments(t, documents(t, dir), want)
	sameDocuments(t, documents(t, hungDir), want)
}

// After an I/O error while syncing nothing can be said of what was written: the
// consumer ends, acknowledges nothing more, and the next one on the mended disk
// gets all of it again.
func TestFailedSyncEndsTheConsumer(t *testing.T) {
	disk := faults.NewThin(t)
	f := newFixture(t)
	dir := filepath.Join(disk.Dir(), "transcripts")
	const bound, wait = time.Second, 7 * time.Second
	store, err := transcript.Open(transcript.Config{Dir: dir, FileTimeout: bound})
	if err != nil {
		t.Fatal(err)
	}
	turns := plain(t, 20, 200)
	f.publish(turns[:100]...)
	c, err := New(Config{JS: f.connect(), Store: store, FileTimeout: bound, AckWait: wait})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- c.Run(ctx) }()
	f.drained(DefaultGroup)
	disk.Exhaust()
	f.publish(turns[100:]...)
	select {
	case err := <-ended:
		if !errors.Is(err, transcript.ErrFailed) {
			t.Fatalf("the consumer ended with %v", err)
		}
		t.Log(err)
	case <-time.After(60 * time.Second):
		t.Fatalf("the consumer goes on: %v, %+v", c.Ready(), c.Stats())
	}
	if err := store.Append(t.Context(), turns[0]); !errors.Is(err, transcript.ErrFailed) {
		t.Errorf("a store whose sync failed takes more: %v", err)
	}
	store.Close(t.Context()) // it says that not everything is folded
	disk.Mend()
	again, err := transcript.Open(transcript.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	f.unacknowledged(again, turns)
	_, stop := f.start(Config{Store: again, FileTimeout: bound, AckWait: wait})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

// Somebody who takes turns and gives them back at once, again and again, makes a
// storm of redeliveries. It costs work, no turn and no memory.
func TestRedeliveryStorm(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.store(dir)
	turns := conversation(t, 8, 250)
	c, stop := f.start(Config{Store: store, BatchTurns: 200})
	servertest.Eventually(t, 10*time.Second, "the consumer runs", func() bool { return c.Ready() == nil })
	before := runtime.NumGoroutine()
	js := f.connect()
	cons, err := js.Consumer(t.Context(), stream.Turns, DefaultGroup)
	if err != nil {
		t.Fatal(err)
	}
	const enough = 200 // given back, however slowly turns come
	storm := make(chan int)
	go func() {
		naked := 0
		defer func() { storm <- naked }()
		for began := time.Now(); time.Since(began) < 2*time.Second || naked < enough && time.Since(began) < time.Minute; {
			got, err := cons.Fetch(500, jetstream.FetchMaxWait(100*time.Millisecond))
			if err != nil {
				continue
			}
			for m := range got.Messages() {
				if m.Nak() == nil {
					naked++
				}
			}
		}
	}()
	f.publish(turns...)
	most := 0
	naked := 0
	for done := false; !done; {
		select {
		case naked = <-storm:
			done = true
		case <-time.After(20 * time.Millisecond):
			most = max(most, runtime.NumGoroutine())
		}
	}
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if naked < enough || c.Stats().Redelivered == 0 {
		t.Errorf("no storm: %d given back, %+v", naked, c.Stats())
	}
	if most > before+transcript.DefaultMaxOps+50 {
		t.Errorf("%d goroutines, %d before the storm", most, before)
	}
	t.Logf("%d given back, %d redelivered to the consumer", naked, c.Stats().Redelivered)
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

// victimURL and victimFolder make this test binary a consumer.
const (
	victimURL    = "AFTERWORD_TEST_CONSUMER_NATS"
	victimFolder = "AFTERWORD_TEST_CONSUMER_DIR"
	victimBound  = 2 * time.Second
)

// TestConsumerVictim is what TestPausedConsumerIsHarmless pauses.
func TestConsumerVictim(t *testing.T) {
	if os.Getenv(victimURL) == "" {
		t.Skip("runs in a process of its own, for TestPausedConsumerIsHarmless")
	}
	nc, err := nats.Connect(os.Getenv(victimURL), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := transcript.Open(transcript.Config{Dir: os.Getenv(victimFolder), FileTimeout: victimBound})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{JS: js, Store: store, FileTimeout: victimBound, AckWait: 2*victimBound + 5*time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	go func() { // it ends with its standard input
		os.Stdin.Read(make([]byte, 1))
		stop()
	}()
	if err := c.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// A consumer that was paused past AckWait, in the middle of its work, comes back
// as a stale writer: its turns were given to another one, and what it still
// writes does no harm.
func TestPausedConsumerIsHarmless(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir, FileTimeout: victimBound})
	if err != nil {
		t.Fatal(err)
	}
	turns := conversation(t, 10, 300)
	cmd := exec.Command(os.Args[0], "-test.run=^TestConsumerVictim$")
	cmd.Env = append(os.Environ(), victimURL+"="+f.nats.URL(), victimFolder+"="+dir)
	out := &logged{}
	cmd.Stdout, cmd.Stderr = out, out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() }) // does nothing once it has ended
	info := func() *jetstream.ConsumerInfo {
		cons, err := f.js.Consumer(t.Context(), stream.Turns, DefaultGroup)
		if err != nil {
			return &jetstream.ConsumerInfo{}
		}
		return cons.CachedInfo()
	}
	servertest.Eventually(t, 30*time.Second, "the victim to join", func() bool { return info().NumWaiting > 0 })
	// Pause it while it has turns that it has not acknowledged.
	published := 0
	for paused := false; !paused; {
		if published == len(turns) {
			t.Fatal("the victim is never caught at work")
		}
		f.publish(turns[published : published+50]...)
		published += 50
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if paused = info().NumAckPending > 0; !paused {
			cmd.Process.Signal(syscall.SIGCONT)
		}
	}
	caught := info().NumAckPending
	c, stop := f.start(Config{Store: store, FileTimeout: victimBound, AckWait: 2*victimBound + 5*time.Second})
	f.publish(turns[published:]...)
	servertest.Eventually(t, 30*time.Second, "another one gets the victim's turns", func() bool { return c.Stats().Redelivered > 0 })
	// It may hold locks of sessions, whose turns wait; everything is taken off the stream.
	servertest.Eventually(t, 30*time.Second, "everything is taken", func() bool { return info().NumPending == 0 })
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.drained(DefaultGroup)
	in.Close()
	if err := <-ended; err != nil {
		t.Fatalf("the victim: %v\n%s", err, out.b.String())
	}
	f.drained(DefaultGroup) // what it gave back at its end
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("paused with %d turns, %d redelivered", caught, c.Stats().Redelivered)
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

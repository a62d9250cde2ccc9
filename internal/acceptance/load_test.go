package acceptance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// load is a chat API: it publishes with the library, one goroutine a session, and
// keeps what it was told.
type load struct {
	pub  *publisher.Publisher
	stop chan struct{}
	work sync.WaitGroup

	mu    sync.Mutex
	said  sessions  // snapshots that were accepted, in order of submission
	took  durations // of every call
	wrong []error
}

// publish starts a load of about rate turns a second over some sessions. Of each
// turn in three, the question is published before the answer; some are sent twice.
func publish(t *testing.T, rnd *rand.Rand, js jetstream.JetStream, names []string, rate int) *load {
	t.Helper()
	return publishWith(t, rnd, publisher.Config{Conn: js.Conn()}, names, rate)
}

// publishWith is publish with a publisher of one's own.
func publishWith(t *testing.T, rnd *rand.Rand, cfg publisher.Config, names []string, rate int) *load {
	t.Helper()
	pub, err := publisher.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := &load{pub: pub, stop: make(chan struct{}), said: make(sessions)}
	pause := time.Duration(len(names)) * time.Second / time.Duration(rate)
	for _, name := range names {
		own := rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64()))
		l.work.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for n := 0; ; n++ {
				l.say(name, n, own)
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
			}
		})
	}
	t.Cleanup(func() {
		l.end()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		pub.Close(ctx)
	})
	return l
}

// say publishes one turn of a session.
func (l *load) say(session string, n int, rnd *rand.Rand) {
	w := transcript.Turn{SessionID: session, User: fmt.Sprintf("question %d of %s", n, session), Assistant: fmt.Sprintf("answer %d: %x", n, rnd.Uint64())}
	kind := rnd.IntN(9)
	if kind < 3 {
		question := w
		question.Assistant = ""
		question.Status = transcript.Pending
		r := l.publish(question)
		if r == nil {
			return
		}
		if kind == 0 {
			return // the model never answered
		}
		w.ID, w.Timestamp, w.Rev = r.ID, r.Timestamp.Time(), 2
	}
	r := l.publish(w)
	if kind == 3 && r != nil { // a client that is not sure
		w.ID, w.Timestamp, w.Rev = r.ID, r.Timestamp.Time(), r.Rev
		l.publish(w)
	}
}

func (l *load) publish(w transcript.Turn) *publisher.Receipt {
	began := time.Now()
	r, err := l.pub.Publish(context.Background(), w)
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
	if err != nil {
		l.wrong = append(l.wrong, err)
		return nil
	}
	status := string(w.Status)
	if status == "" {
		status = "complete"
	}
	l.said.add(turn{
		Session: w.SessionID, ID: r.ID, Timestamp: r.Timestamp.String(),
		User: w.User, Assistant: w.Assistant, Status: status, Rev: r.Rev,
	})
	return r
}

// wantQuick checks that Publish waited neither for the stream nor for its return: on a machine
// that others use one pause in the middle of a call holds up a call of each session.
func wantQuick(t *testing.T, took durations, outage time.Duration) {
	t.Helper()
	const bound = 50 * time.Millisecond
	if p := choose(.99, .999); took.at(p) > bound || took.at(1) > outage/2 {
		t.Errorf("%s: the quantile %v of Publish is %v, want at most %v; the largest of an outage of %v is %v", inTime, p, took.at(p), bound, outage, took.at(1))
	}
}

func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.work.Wait()
}

// drain ends the load and waits until the stream has all of it.
func (l *load) drain(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	l.end()
	for i, err := range l.wrong {
		t.Errorf("%d calls failed: %v", len(l.wrong)-i, err)
		break
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := l.pub.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// wantOrder checks that in each session later turns have later timestamps, so
// that the order of the transcript is that of submission.
func (l *load) wantOrder(t *testing.T) {
	t.Helper()
	for session, snapshots := range l.said {
		last := ""
		seen := make(map[string]string)
		for _, w := range snapshots {
			if at, ok := seen[w.ID]; ok {
				if at != w.Timestamp {
					t.Errorf("session %s: snapshots of turn %s are dated %s and %s", session, w.ID, at, w.Timestamp)
				}
				continue
			}
			if w.Timestamp <= last {
				t.Errorf("session %s: a turn is dated %s, after one at %s", session, w.Timestamp, last)
			}
			seen[w.ID], last = w.Timestamp, w.Timestamp
		}
	}
}

func namesOf(format string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(format, i)
	}
	return names
}

package acceptance

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// Three NATS servers, three replicas: the leader of the stream is killed again and
// again under load, and once all three. Nothing that was accepted is lost, and
// publisher and consumer find the way back by themselves.
func TestLeaderIsKilled(t *testing.T) {
	kills := choose(2, 20)
	rnd := random(t)
	nodes := servertest.NATSCluster(t, 3)
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL())
	}
	all := strings.Join(urls, ",")
	js := connect(t, all)
	run(t, "stream", "init", "--replicas", "3", "--nats-url", all)
	dataDir := filepath.Join(t.TempDir(), "data")
	consume := consumeOn(t, all, dataDir)
	l := publish(t, rnd, js, namesOf("leader-%d", 20), 100)
	for range kills {
		var leader *servertest.NATSNode
		eventually(t, healed, "the stream has a leader and all replicas", func() error {
			s, err := js.Stream(t.Context(), stream.Turns)
			if err != nil {
				return err
			}
			info := s.CachedInfo()
			if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) < 2 {
				return errors.New("it has not")
			}
			for _, peer := range info.Cluster.Replicas {
				if peer.Offline || !peer.Current {
					return errors.New(peer.Name + " is not current")
				}
			}
			for _, n := range nodes {
				if n.Name() == info.Cluster.Leader {
					leader = n
				}
			}
			return nil
		})
		leader.Kill9()
		spread(t, time.Duration(500+rnd.IntN(1500))*time.Millisecond)
		leader.Restart()
	}
	for _, n := range nodes {
		n.Kill9()
	}
	spread(t, time.Second)
	for _, n := range nodes {
		n.Start()
	}
	back := time.Now()
	l.drain(t, 2*time.Minute)
	stored := time.Since(back)
	took := wantHealed(t, dataDir, l.said, "after the leaders were killed")
	t.Logf("R3, leader killed %d times and all three once → stored %v after the restart; %s", kills, stored.Round(time.Millisecond), figuresOf(l.said, took))
	consume.stop()
}

// A consumer that is stopped for longer than its turns are kept for it, while
// another member of its group takes them over, does no harm when it comes back.
func TestConsumerPausesPastAckWait(t *testing.T) {
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	dataDir := filepath.Join(t.TempDir(), "data")
	a, b := consumeOn(t, nats.URL(), dataDir), consumeOn(t, nats.URL(), dataDir)
	seen := observe(t, dataDir, 1)
	l := publish(t, rnd, js, namesOf("pause-%d", 20), 200)
	for i := range choose(2, 10) {
		p := a
		if i%2 == 1 {
			p = b
		}
		spread(t, time.Second)
		p.signal(syscall.SIGSTOP)
		spread(t, 9*time.Second) // --ack-wait is 8 s
		p.signal(syscall.SIGCONT)
	}
	l.drain(t, time.Minute)
	took := wantHealed(t, dataDir, l.said, "after pauses past the ack wait")
	wantConsumed(t, healed, js, group)
	seen.end(t)
	t.Logf("SIGSTOP for 9 s, in turn → %s", figuresOf(l.said, took))
	a.stop()
	b.stop()
}

// A stream that repeats every turn and shuffles all of them makes the same bytes
// as one that has each once and in order.
func TestDuplicatesInAnyOrder(t *testing.T) {
	turns, times := choose(2_000, 100_000), 3
	rnd := random(t)
	k := newTalk(rnd, namesOf("twice-%d", turns/50))
	var plain []turn
	for range turns {
		w := k.next()
		w.User, w.Assistant = w.User[:min(len(w.User), 12)], "answer"
		plain = append(plain, w)
	}
	said := make(sessions)
	said.add(plain...)
	var many []turn
	for range times {
		many = append(many, plain...)
	}
	rnd.Shuffle(len(many), func(i, j int) { many[i], many[j] = many[j], many[i] })
	documents := func(what string, list []turn) map[string]string {
		nats := servertest.NATSProcess(t)
		js := connect(t, nats.URL())
		if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		publishAll(t, js, list)
		stored := time.Since(began)
		dataDir := filepath.Join(t.TempDir(), "data")
		consume := consumeOn(t, nats.URL(), dataDir)
		wantConsumed(t, 10*time.Minute, js, group)
		took := wantHealed(t, dataDir, said, what)
		t.Logf("%s: %d turns stored in %v → %s", what, len(list), stored.Round(time.Second), figuresOf(said, took))
		consume.stop()
		return allDocuments(t, transcripts(dataDir))
	}
	once := documents("each once, in order", plain)
	sameDocuments(t, exactlyOnce+": each three times, in random order", documents("each three times, in random order", many), once)
}

// publishAll stores turns without the id by which the server drops repetitions.
func publishAll(t *testing.T, js jetstream.JetStream, list []turn) {
	t.Helper()
	async, err := jetstream.New(js.Conn(), jetstream.WithPublishAsyncMaxPending(500), jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
		t.Errorf("publish: %v", err)
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		if _, err := async.PublishAsync(stream.TurnPrefix+token(w.Session), []byte(w.payload()), jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-async.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the stream does not acknowledge")
	}
}

package acceptance

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
)

// Mixed faults for a given time, one after the other, under load; after each
// everything is right again. It ends with a report. make soak runs it.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("a soak runs for a given time: make soak DURATION=30m")
	}
	rnd := random(t)
	disk := faults.Loop(t, "ext4")
	nats, server := servertest.NATSProcess(t), servertest.Redis(t)
	proxy := faults.NewProxy(t, server.Addr())
	redis := openRedis(t, server.Addr())
	js := connect(t, nats.URL())
	dataDir := filepath.Join(disk.Dir(), "data")
	counts := make(map[string]int)
	startConsume := func() *service {
		for {
			s := tryService(t, "consume", "--nats-url", nats.URL(), "--redis-url", "redis://"+proxy.Addr(), "--data-dir", dataDir,
				"--file-timeout", "1s", "--ack-wait", "8s")
			if s.running() {
				return s.ready()
			}
			// ext4 gives back a moment later what was removed from a full disk.
			if code := s.cmd.ProcessState.ExitCode(); code != 1 || counts["start on a disk in trouble"] > 1000 {
				t.Fatalf("%s ended with %d:\n%s", s, code, s.errors())
			}
			counts["start on a disk in trouble"]++
		}
	}
	consume := startConsume()
	// Two that nobody kills live through everything else.
	aside := filepath.Join(t.TempDir(), "aside")
	where := []string{"--nats-url", nats.URL(), "--redis-url", "redis://" + proxy.Addr(), "--data-dir", aside}
	second := newWitness(startService(t, append([]string{"consume", "--group", "second"}, where...)...).ready())
	gateway := newWitness(startService(t, append([]string{"gateway"}, where...)...).ready())
	kinds := map[string]func(){
		"kill -9 consumer": func() { consume.kill9(); consume = startConsume() },
		"power cut": func() {
			disk.Cut()
			consume.kill9()
			disk.Restore()
			consume = startConsume()
		},
		"pause consumer": func() {
			consume.signal(syscall.SIGSTOP)
			spread(t, time.Duration(rnd.IntN(10_000))*time.Millisecond)
			consume.signal(syscall.SIGCONT)
		},
		"kill -9 NATS": func() {
			nats.Kill9()
			spread(t, time.Duration(rnd.IntN(3000))*time.Millisecond)
			nats.Restart()
		},
		"hang NATS": func() {
			nats.Hang()
			spread(t, time.Duration(rnd.IntN(5000))*time.Millisecond)
			nats.Resume()
		},
		"hang Redis": func() {
			server.Hang()
			spread(t, time.Duration(rnd.IntN(5000))*time.Millisecond)
			server.Resume()
		},
		"restart Redis": server.Restart,
		"flush Redis":   func() { redis.FlushAll(t.Context()) },
		"cut Redis off": func() {
			proxy.Cut()
			spread(t, time.Duration(rnd.IntN(5000))*time.Millisecond)
			proxy.Heal()
		},
		"full disk": func() {
			free := disk.Fill()
			spread(t, time.Duration(500+rnd.IntN(2000))*time.Millisecond)
			free()
		},
		"read-only disk": func() {
			disk.ReadOnly(true)
			spread(t, time.Duration(500+rnd.IntN(2000))*time.Millisecond)
			disk.ReadOnly(false)
		},
	}
	names := slices.Sorted(maps.Keys(kinds))
	sums := newLedger(dataDir)
	began := time.Now()
	rounds, calls := 0, 0
	var healing durations
	for ; time.Since(began) < *soak; rounds++ {
		l := publish(t, rnd, js, namesOf(fmt.Sprintf("soak-%d-%%d", rounds), 10), 150)
		posts := write(t, &gateway.s.api, 4, 100*time.Millisecond, func(client, _ int) string { return fmt.Sprintf("posted-%d-%d", rounds, client) })
		for range 1 + rnd.IntN(3) {
			spread(t, time.Duration(300+rnd.IntN(1000))*time.Millisecond)
			name := names[rnd.IntN(len(names))]
			counts[name]++
			kinds[name]()
		}
		if !consume.running() { // it said that it cannot go on; its supervisor starts it again
			counts["restart by the supervisor"]++
			consume = startConsume()
		}
		l.drain(t, 2*time.Minute)
		calls += len(l.took)
		healing = append(healing, wantHealed(t, dataDir, l.said, fmt.Sprintf("soak round %d", rounds)))
		posts.end()
		for i, err := range posts.refused {
			t.Errorf("%d posts were refused: %v", len(posts.refused)-i, err)
			break
		}
		calls += posts.accepted.count()
		healing = append(healing, wantHealed(t, dataDir, posts.accepted, fmt.Sprintf("posts of soak round %d", rounds)))
		wantHealed(t, aside, l.said, fmt.Sprintf("soak round %d, the second group", rounds))
		maps.Copy(l.said, posts.accepted)
		for _, turns := range l.said {
			sums.send(turns...)
			sums.ack(turns...)
		}
		sums.check(t, noLoss, fmt.Sprintf("soak round %d", rounds))
		sums.next()
		second.look(t)
		gateway.look(t)
		if t.Failed() {
			break
		}
	}
	wantConsumed(t, time.Minute, js, group)
	t.Logf("soak of %v: %d rounds, %d snapshots published", time.Since(began).Round(time.Second), rounds, calls)
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("  %-26s %d times", name, counts[name])
	}
	t.Logf("  %s", sums.figures())
	t.Logf("  right again after: %v", healing)
	// Stored turns stay in memory for five minutes when nobody asks for histories.
	const longEnough = 15 * time.Minute
	second.flat(t, "consumer that lived through it", longEnough)
	gateway.flat(t, "gateway that lived through it", longEnough)
	gateway.s.stop()
	second.s.stop()
	consume.stop()
}

// statusOf is a number of /proc/PID/status.
func statusOf(t *testing.T, pid int, name string) int {
	t.Helper()
	for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

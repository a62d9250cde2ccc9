package acceptance

import (
	"fmt"
	"maps"
	"os"
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
	startConsume := func() *service {
		return startService(t, "consume", "--nats-url", nats.URL(), "--redis-url", "redis://"+proxy.Addr(), "--data-dir", dataDir,
			"--file-timeout", "1s", "--ack-wait", "8s").ready()
	}
	consume := startConsume()
	counts := make(map[string]int)
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
	var memory, descriptors, goroutines []int
	for ; time.Since(began) < *soak; rounds++ {
		l := publish(t, rnd, js, namesOf(fmt.Sprintf("soak-%d-%%d", rounds), 10), 150)
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
		for _, turns := range l.said {
			sums.send(turns...)
			sums.ack(turns...)
		}
		sums.check(t, noLoss, fmt.Sprintf("soak round %d", rounds))
		sums.next()
		memory = append(memory, statusOf(t, consume.cmd.Process.Pid, "VmRSS:"))
		open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", consume.cmd.Process.Pid))
		descriptors = append(descriptors, len(open))
		n, _ := strconv.Atoi(consume.metric("go_goroutines"))
		goroutines = append(goroutines, n)
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
	for what, list := range map[string][]int{"memory of the consumer, KiB": memory, "its descriptors": descriptors, "its goroutines": goroutines} {
		t.Logf("  %s: first %d, last %d, most %d", what, list[0], list[len(list)-1], slices.Max(list))
	}
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

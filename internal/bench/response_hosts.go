package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

const (
	probeTurns    = 500
	probeEvery    = 10 * time.Millisecond
	probeSessions = 50
	probeBound    = 20 * time.Second // for one turn
	probePoll     = time.Millisecond
	hostConsumers = 3

	hostNATSPort, hostRedisPort = 4222, 6379
)

// hosts are network namespaces that see each other over a bridge, which is in one
// of its own: nothing of the machine's network is touched.
type hosts struct {
	prefix string
	names  []string // in the order of their addresses
}

func canMakeHosts() error { return needs("ip") }

// makeHosts makes one for each name.
func (l *lab) makeHosts(ctx context.Context, c *cleaner, names ...string) (*hosts, error) {
	h := &hosts{prefix: fmt.Sprintf("afterword-bench-%d-", os.Getpid()), names: names}
	bridge := h.name("switch")
	ip := func(args ...string) error { return command(ctx, "ip", args...) }
	add := func(name string) error {
		if err := c.will(namespace, name); err != nil {
			return err
		}
		return ip("netns", "add", name)
	}
	if err := add(bridge); err != nil {
		return nil, fmt.Errorf("%w: needs network namespaces: %w", errSkipped, err)
	}
	if err := errors.Join(ip("-n", bridge, "link", "add", "br0", "type", "bridge"), ip("-n", bridge, "link", "set", "br0", "up")); err != nil {
		return nil, fmt.Errorf("%w: needs a bridge: %w", errSkipped, err)
	}
	for i, name := range names {
		host, port := h.name(name), fmt.Sprintf("v%d", i)
		if err := add(host); err != nil {
			return nil, err
		}
		for _, args := range []string{
			"-n " + bridge + " link add " + port + " type veth peer name eth0 netns " + host,
			"-n " + bridge + " link set " + port + " master br0 up",
			"-n " + host + " addr add " + h.address(name) + "/24 dev eth0",
			"-n " + host + " link set lo up",
			"-n " + host + " link set eth0 up",
		} {
			if err := ip(strings.Fields(args)...); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

func (h *hosts) name(host string) string { return h.prefix + host }

func (h *hosts) address(host string) string {
	return fmt.Sprintf("10.231.77.%d", slices.Index(h.names, host)+1)
}

// on is the command that runs another on a host.
func (h *hosts) on(host string) []string { return []string{"ip", "netns", "exec", h.name(host)} }

// crossHosts measures, on six hosts, how long a turn takes from Publish on one
// until Redis on another has it, through NATS on a third and a consumer on a
// fourth. It is an error if a turn is not in its transcript at the end.
func (l *lab) crossHosts(ctx context.Context, turns int) (_ Latencies, err error) {
	if err := canMakeHosts(); err != nil {
		return Latencies{}, err
	}
	c, err := l.startCleaner()
	if err != nil {
		return Latencies{}, err
	}
	var procs []*process
	defer func() {
		for _, p := range procs {
			p.kill()
		}
		err = errors.Join(err, c.clean())
	}()
	names := []string{"api", "nats", "redis"}
	for i := range hostConsumers {
		names = append(names, fmt.Sprintf("consumer%d", i+1))
	}
	h, err := l.makeHosts(ctx, c, names...)
	if err != nil {
		return Latencies{}, err
	}
	proc, err := l.natsOn(h, "nats")
	if err != nil {
		return Latencies{}, err
	}
	procs = append(procs, proc)
	redis, err := l.tryRedis(ctx, "0.0.0.0", hostRedisPort, "", h.on("redis")...)
	if err != nil {
		return Latencies{}, err
	}
	procs = append(procs, redis.process)
	j := partJob{
		NATS: fmt.Sprintf("nats://%s:%d", h.address("nats"), hostNATSPort), Redis: fmt.Sprintf("redis://%s:%d", h.address("redis"), hostRedisPort),
		Turns: turns, Every: probeEvery,
	}
	dir := l.fresh("transcripts")
	var consumers []*part
	for _, name := range names[3:] {
		j.Part, j.Dir = consumersPart, dir
		p, _, err := l.startPart(ctx, j, h.on(name)...)
		if err != nil {
			return Latencies{}, err
		}
		procs, consumers = append(procs, p.process), append(consumers, p)
	}
	j.Part, j.Dir = probePart, ""
	p, _, err := l.startPart(ctx, j, h.on("api")...)
	if err != nil {
		return Latencies{}, err
	}
	procs = append(procs, p.process)
	var took []time.Duration
	for open := true; open; {
		select {
		case said, ok := <-p.said:
			open = ok
			took = append(took, said.Took...)
		case <-ctx.Done():
			return Latencies{}, context.Cause(ctx)
		}
	}
	<-p.done
	if p.err != nil || len(took) != turns {
		return Latencies{}, fmt.Errorf("the API's host: %w: %s", p.err, p.output())
	}
	for _, p := range consumers {
		if err := p.finish(ctx, healBound); err != nil {
			return Latencies{}, err
		}
	}
	return Quantiles(took), l.allProbed(ctx, dir, turns)
}

// natsOn starts a nats-server on a host.
func (l *lab) natsOn(h *hosts, host string) (*process, error) {
	dir := l.fresh("nats")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nats.conf")
	conf := fmt.Sprintf("server_name: n1\nlisten: \"0.0.0.0:%d\"\njetstream { store_dir: %q, sync_interval: always }\n", hostNATSPort, dir)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	argv := append(h.on(host), l.Self...)
	if argv = append(argv, natsCommand); l.NATSServer != "" {
		argv = append(h.on(host), l.NATSServer)
	}
	argv = append(argv, "-c", file)
	return spawn(exec.Command(argv[0], argv[1:]...), l.fresh("nats.log"))
}

// allProbed checks that every turn is in its transcript, once.
func (l *lab) allProbed(ctx context.Context, dir string, turns int) error {
	store, err := transcript.Open(transcript.Config{Dir: dir, ReadOnly: true})
	if err != nil {
		return err
	}
	defer store.Close(ctx)
	found := make(map[string]int)
	for i := range probeSessions {
		texts, err := storeTexts(ctx, store, probeSession(i))
		if err != nil {
			return err
		}
		for _, text := range texts {
			found[label(text)]++
		}
	}
	for n := range turns {
		if found[probeLabel(n)] != 1 {
			return fmt.Errorf("turn %s is %d times in its transcript", probeLabel(n), found[probeLabel(n)])
		}
	}
	return nil
}

func probeSession(n int) string { return fmt.Sprintf("probe-%02d", n%probeSessions) }
func probeLabel(n int) string   { return fmt.Sprintf("p%05d", n) }

// probe is the API's host: it publishes turns at a steady pace, and polls Redis
// until it has each.
func probe(ctx context.Context, j partJob, say func(partLine)) (err error) {
	say(partLine{Ready: true})
	nc, js, err := connectSoon(ctx, j.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	p, err := publisher.New(publisher.Config{Conn: nc})
	if err != nil {
		return err
	}
	defer func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeBound)
		defer cancel()
		err = errors.Join(err, p.Close(bound))
	}()
	cache.LogClient(nil)
	redis, err := cache.New(cache.Config{URL: j.Redis})
	if err != nil {
		return err
	}
	defer redis.Close()
	shared, err := cache.NewShared(cache.SharedConfig{JS: js, Redis: redis}) // for the key
	if err != nil {
		return err
	}
	defer shared.Close(context.WithoutCancel(ctx))
	once := func(session, text string) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, probeBound)
		defer cancel()
		began := time.Now()
		receipt, err := p.Publish(ctx, transcript.Turn{SessionID: session, User: text, Assistant: strings.Repeat("And so on. ", answerBytes/11)})
		if err != nil {
			return 0, err
		}
		for {
			recent, _, err := redis.Recent(ctx, session) // one that fails is asked again
			if err == nil && slices.ContainsFunc(recent.Turns, func(s transcript.Snapshot) bool { return s.ID == receipt.ID }) {
				return time.Since(began), nil
			}
			if err := pause(ctx, probePoll); err != nil {
				return 0, fmt.Errorf("a turn is not in Redis: %w", err)
			}
		}
	}
	if _, err := once("warm-up", "hello"); err != nil { // all hosts are up then
		return err
	}
	var mu sync.Mutex
	var work sync.WaitGroup
	took := make([]time.Duration, 0, j.Turns)
	var failure error
	tick := time.NewTicker(j.Every)
	defer tick.Stop()
	for n := range j.Turns {
		work.Go(func() {
			d, err := once(probeSession(n), probeLabel(n)+" well?")
			mu.Lock()
			defer mu.Unlock()
			took, failure = append(took, d), errors.Join(failure, err)
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	work.Wait()
	if failure != nil {
		return failure
	}
	say(partLine{Took: took})
	return nil
}

// connectSoon connects to a server that is perhaps just starting, and makes the streams.
func connectSoon(ctx context.Context, url string) (*nats.Conn, jetstream.JetStream, error) {
	for deadline := time.Now().Add(startTimeout); ; {
		nc, js, err := connect(ctx, url, 1)
		if err == nil || !errors.Is(err, stream.ErrUnreachable) || time.Now().After(deadline) {
			return nc, js, err
		}
		if err := pause(ctx, pollEvery); err != nil {
			return nil, nil, err
		}
	}
}

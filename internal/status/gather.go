package status

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// Defaults of a [Config].
const (
	// DefaultTimeout bounds one look at everything.
	DefaultTimeout = 5 * time.Second
	// DefaultLagWarning and DefaultLagCritical are ages of the oldest turn that a group
	// has not written.
	DefaultLagWarning  = 30 * time.Second
	DefaultLagCritical = 5 * time.Minute
)

// localTimeout bounds a question to [Config.Local], where any program may listen.
const localTimeout = time.Second

// maxReadiness bounds what is read of an answer of /readyz, in bytes.
const maxReadiness = 64 << 10

// Cache is a Redis, as [cache.Redis] is.
type Cache interface {
	// Check returns what Redis does not do, as a [*cache.TroubleError], or nil.
	Check(ctx context.Context) error
	String() string // its URL without secrets
}

// Config says what to look at. The zero value looks at nothing.
type Config struct {
	// Connect returns a connection, or says why there is none. It is asked at every look.
	Connect func(ctx context.Context) (jetstream.JetStream, error)
	// NATSURL is what a report calls the server that cannot be reached, without secrets.
	NATSURL string
	// Redis is asked to read and to write; nil means no cache.
	Redis Cache
	// Open opens the transcripts of this machine, once; nil, or a nil store, means that it has none.
	Open func() (*transcript.Store, error)
	// Publisher returns the figures of the publisher of this process; nil means that it has none.
	Publisher func() publisher.Stats
	// Services are addresses, host:port, of services whose readiness is asked for.
	Services []string
	// Local are addresses at which a service of this machine may be. One that answers there is asked what
	// other machines may reach; nothing else is expected of it.
	Local []string
	// Exposed are the addresses of this process that other machines may reach.
	Exposed []string

	// Timeout bounds one look. Zero means [DefaultTimeout].
	Timeout time.Duration
	// LagWarning and LagCritical are the ages of the oldest turn that is not written from
	// which on that is so bad. Zero means [DefaultLagWarning] and [DefaultLagCritical].
	LagWarning, LagCritical time.Duration
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.LagWarning = cmp.Or(c.LagWarning, DefaultLagWarning)
	c.LagCritical = cmp.Or(c.LagCritical, DefaultLagCritical)
	return c
}

func (c Config) validate() error {
	if c.LagWarning > c.LagCritical {
		return fmt.Errorf("the lag of a warning, %s, is longer than that of a critical state, %s", c.LagWarning, c.LagCritical)
	}
	return nil
}

// Gatherer looks at everything, again and again.
type Gatherer struct {
	cfg    Config
	client *http.Client

	mu     sync.Mutex
	store  *transcript.Store
	opened chan error // of an opening that is under way; a disk that hangs is asked once
}

// New makes a Gatherer. It asks nobody yet.
func New(cfg Config) (*Gatherer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Gatherer{cfg: cfg, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}}, nil
}

// Gather looks at everything. It returns within the bound.
func (g *Gatherer) Gather(ctx context.Context) Report {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	now := time.Now().UTC()
	// Each part writes into a report of its own, so that they need not wait for each other.
	parts := [5]Report{}
	var all sync.WaitGroup
	all.Go(func() { g.nats(ctx, &parts[0], now) })
	all.Go(func() { g.redis(ctx, &parts[1]) })
	all.Go(func() { g.transcripts(ctx, &parts[2], now) })
	all.Go(func() { g.services(ctx, &parts[3]) })
	local := make([][]string, len(g.cfg.Local))
	for i, addr := range g.cfg.Local {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, min(localTimeout, g.cfg.Timeout))
			defer cancel()
			_, local[i], _ = g.ask(ctx, "http://"+addr+"/readyz")
		})
	}
	g.publisher(&parts[4], now)
	parts[4].exposed("", g.cfg.Exposed)
	all.Wait()

	r := parts[0]
	r.Time, r.Redis, r.Transcripts = now, parts[1].Redis, parts[2].Transcripts
	for _, p := range parts[1:] {
		r.Checks = append(r.Checks, p.Checks...)
	}
	for i, addr := range g.cfg.Local {
		r.exposed(addr, local[i])
	}
	r.onceExposed()
	r.matchFolder()
	r.finish()
	return r
}

func (g *Gatherer) redis(ctx context.Context, r *Report) {
	if g.cfg.Redis == nil {
		r.Redis.URL = "none"
		return
	}
	r.Redis.URL = g.cfg.Redis.String()
	err := g.cfg.Redis.Check(ctx)
	if err == nil {
		r.Redis.Reachable, r.Redis.URL = true, g.cfg.Redis.String() // connected, it tells of credentials
		r.add(CheckRedis, "", OK, r.Redis.URL+" answers and takes writes", "")
		return
	}
	what, why, do := "fails", err.Error(), ""
	var trouble *cache.TroubleError
	if errors.As(err, &trouble) {
		what, why, do = strings.TrimSuffix(strings.TrimPrefix(trouble.What, "Redis "), " at "+r.Redis.URL), trouble.Why, trouble.Do+"; "
		r.Redis.Reachable = trouble.Answers()
	}
	r.add(CheckRedis, "", Warning, fmt.Sprintf("%s %s, so histories are read from files: %s", r.Redis.URL, what, why),
		do+"--redis-url gives the address, or none for no cache")
}

// services asks for readiness.
func (g *Gatherer) services(ctx context.Context, r *Report) {
	for _, addr := range g.cfg.Services {
		url := "http://" + addr + "/readyz"
		level, found, do := OK, "ready", ""
		status, exposed, err := g.ask(ctx, url)
		switch {
		case err != nil:
			level, found, do = Critical, fmt.Sprintf("no answer: %v", err), "start the service, and look at its log"
		case status == http.StatusMisdirectedRequest:
			level, found, do = Critical, "it does not answer for this host", "ask it by its address, or name the host in its --allowed-hosts"
		case status != http.StatusOK:
			level, found, do = Critical, fmt.Sprintf("not ready: status %d", status), "curl "+url
		}
		r.add(CheckService, addr, level, found, do)
		r.exposed(addr, exposed)
	}
}

// exposed warns of addresses on which nobody is asked for credentials. Others may have said them, so
// what is no address is left out.
func (r *Report) exposed(of string, addrs []string) {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(s string) bool { _, err := netip.ParseAddrPort(s); return err != nil })
	if len(addrs) > 0 {
		r.add(CheckAccess, of, Warning, "other machines may connect to "+strings.Join(addrs, " and ")+", and nobody is asked for credentials (--allow-unauthenticated)",
			"let only trusted networks reach it, or listen on loopback behind a proxy that authenticates")
	}
}

// onceExposed leaves one warning of addresses that several have said: a consumer over NATS, and its /readyz.
func (r *Report) onceExposed() {
	said := make(map[string]int) // index of the first
	kept := r.Checks[:0]
	for _, c := range r.Checks {
		if c.Name == CheckAccess {
			if i, ok := said[c.Found]; ok {
				if of := kept[i].Of; of != "" && !slices.Contains(strings.Split(of, ", "), c.Of) { // "" is this process
					kept[i].Of = of + ", " + c.Of
				}
				continue
			}
			said[c.Found] = len(kept)
		}
		kept = append(kept, c)
	}
	r.Checks = kept
}

// ask returns the status of a service, and the addresses on which it asks nobody for credentials.
func (g *Gatherer) ask(ctx context.Context, url string) (status int, exposed []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := g.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("none in time")
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	var said struct {
		Exposed []string `json:"exposed"`
	}
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxReadiness)).Decode(&said) // an older service says nothing of it
	return resp.StatusCode, said.Exposed, nil
}

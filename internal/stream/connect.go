package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/credentials"
)

// Defaults of [Config] and the fixed settings of every connection.
const (
	// DefaultConnectTimeout bounds the first attempt to connect.
	DefaultConnectTimeout = 4 * time.Second

	perServerTimeout = 2 * time.Second // so that one dead server of a list does not use up the whole bound
	flusherTimeout   = 5 * time.Second // a write into a full socket fails instead of hanging
	reconnectWait    = 500 * time.Millisecond
	reconnectJitter  = 500 * time.Millisecond // many VMs must not come back in step
	pingInterval     = 5 * time.Second
	maxPings         = 2 // a peer that vanished is noticed after 10 to 15 s
	drainTimeout     = 20 * time.Second
)

var (
	// ErrRefused says that a server refused the credentials. Waiting does not help.
	ErrRefused = errors.New("NATS refused the credentials")
	// ErrUnreachable says that no server, or no JetStream, answered in time. Waiting may help.
	ErrUnreachable = errors.New("NATS is unreachable")
	// ErrEnded says that a server ended the connection for what was sent, as a message over a max_payload that was
	// lowered meanwhile. A new start helps.
	ErrEnded = errors.New("the NATS server ended the connection")
)

// Config says how to connect. The zero value connects to [DefaultURL] and
// fails if nothing answers.
type Config struct {
	// URL is one server or a comma-separated list; user and password, or a
	// token, may stand in it. Empty means [DefaultURL].
	URL string
	// Credentials say who connects. Empty means what stands in the URL, if anything.
	Credentials
	// API is checked, for the [JetStream] that is made of the connection.
	API API
	// InboxPrefix begins the subjects that answers come on, so that who may read the answers of
	// one role reads those of no other. Empty means "_INBOX".
	InboxPrefix string
	// DataDirs are folders that may be the data folder of an `afterword serve` on this machine. When
	// URL is that of its embedded server, and no credentials are given, those in the folder are used.
	DataDirs []string
	// Name is shown by the server's monitoring. Empty means "afterword".
	Name string
	// Wait is for services: a server that is unreachable is waited for, and
	// Connect returns a connection that is not connected yet. Otherwise that is
	// an error.
	Wait bool
	// Timeout bounds the first attempt, over all servers. Zero means
	// [DefaultConnectTimeout].
	Timeout time.Duration
	// Logger gets disconnects, reconnects and asynchronous errors, one line
	// each. Nil discards them.
	Logger *slog.Logger
	// OnClosed, if set, is called at most once after Connect has returned: with an [ErrRefused]
	// when a server refuses the credentials twice in a row, and with an [ErrEnded] when it ended
	// the connection because of what was sent. The connection is closed then; a service should
	// exit. It runs on the connection's callback goroutine and must not block.
	OnClosed func(error)
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "afterword"
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultConnectTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Connect connects to NATS. While disconnected the connection buffers nothing:
// a publish fails at once and whoever publishes keeps the turn. It reconnects
// for ever.
//
// A malformed URL, an unreadable credentials file and refused credentials
// ([ErrRefused]) are errors at once, in one line that says what to do. An
// unreachable server is an [ErrUnreachable] within Timeout, or with Wait a
// connection that keeps trying. The caller closes the connection.
func Connect(ctx context.Context, cfg Config) (*nats.Conn, error) {
	cfg = cfg.withDefaults()
	urls, opts, watch, err := cfg.prepare()
	if err != nil {
		return nil, err
	}

	where := watch.where
	try, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	// A plain attempt comes first even for services: with RetryOnFailedConnect
	// nats.go hides refused credentials from the caller.
	nc, err := attempt(try, opts)
	if err == nil {
		watch.returned()
		return nc, nil
	}
	if !isRefused(err) && len(urls) > 1 {
		// Of several servers nats.go reports only what the last one said.
		err = refusedByAny(try, opts, urls, err)
	}
	switch {
	case isRefused(err):
		return nil, watch.refused(err)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connect to NATS: %w", ctx.Err())
	case !cfg.Wait:
		return nil, fmt.Errorf("%w at %s: %v; start it, or give its address with --nats-url", ErrUnreachable, where, plain(err))
	}

	cfg.Logger.Warn("NATS is unreachable, waiting for it", "url", where, "error", plain(err))
	opts.RetryOnFailedConnect = true
	nc, err = opts.Connect()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", where, err)
	}
	watch.returned()
	return nc, nil
}

// ConnectedURL is where a connection leads, without secrets. A user that the URL of the server
// does not have is shown, too.
func ConnectedURL(nc *nats.Conn) string {
	raw := nc.ConnectedUrl()
	u, err := parseURL(raw)
	if err != nil || u.User != nil || nc.Opts.UserInfo == nil {
		return RedactURL(raw)
	}
	if user, password := nc.Opts.UserInfo(); password != "" {
		u.User = url.UserPassword(user, password)
	}
	return RedactURL(u.String())
}

// Check returns the error with which [Connect] would fail before it asks a server.
func (c Config) Check() error {
	_, _, _, err := c.withDefaults().prepare()
	return err
}

// prepare makes of a configuration what nats.go needs.
func (c Config) prepare() (urls []string, o nats.Options, w *watcher, err error) {
	if urls, err = parseURLs(c.URL); err == nil {
		err = c.API.validate()
	}
	if err == nil {
		o, w, err = c.options(urls)
	}
	return urls, o, w, err
}

func (c Config) options(urls []string) (nats.Options, *watcher, error) {
	w := &watcher{log: c.Logger, cfg: c, where: RedactURL(strings.Join(urls, ",")), inboxes: inboxes(nats.InboxPrefix)}
	o := nats.GetDefaultOptions()
	for _, set := range []nats.Option{
		nats.Name(c.Name),
		nats.Timeout(min(c.Timeout, perServerTimeout)),
		nats.ReconnectBufSize(-1),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.FlusherTimeout(flusherTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.DrainTimeout(drainTimeout),
		nats.ConnectHandler(w.connected),
		nats.DisconnectErrHandler(w.disconnected),
		nats.ReconnectHandler(w.reconnected),
		nats.ErrorHandler(w.failed),
		nats.ClosedHandler(w.closed),
	} {
		if err := set(&o); err != nil {
			return o, nil, fmt.Errorf("NATS option: %w", err)
		}
	}
	o.Servers = urls
	if prefix := strings.TrimSuffix(c.InboxPrefix, "."); prefix != "" {
		if !isSubject(prefix) {
			return o, nil, fmt.Errorf("--nats-inbox-prefix %q is not a subject without wildcards: give one as in _INBOX_gateway", c.InboxPrefix)
		}
		o.InboxPrefix, w.inboxes = prefix, inboxes(prefix+".")
	}
	if err := c.set(&o); err != nil {
		return o, nil, err
	}
	if len(c.DataDirs) > 0 && len(urls) == 1 && !c.given() && !inURL(urls[0]) {
		w.embedded = credentials.NATS(c.DataDirs, o.Timeout)
		o.CustomDialer, o.UserInfo = w.embedded, w.embedded.Userinfo
	}
	return o, w, nil
}

// attempt is opts.Connect bounded by ctx: a list of servers that accept and
// then say nothing would otherwise take a timeout each.
func attempt(ctx context.Context, opts nats.Options) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		nc, err := opts.Connect()
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		return r.nc, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// refusedByAny asks each server by itself and returns its refusal if one
// refuses, otherwise fallback.
func refusedByAny(ctx context.Context, opts nats.Options, urls []string, fallback error) error {
	if ctx.Err() != nil { // the bound is used up
		return fallback
	}
	opts.ConnectedCB, opts.DisconnectedErrCB, opts.ReconnectedCB, opts.ClosedCB = nil, nil, nil, nil
	errs := make(chan error, len(urls))
	for _, u := range urls {
		one := opts
		one.Servers = []string{u}
		go func() {
			nc, err := attempt(ctx, one)
			if nc != nil {
				nc.Close()
			}
			errs <- err
		}()
	}
	for range urls {
		if err := <-errs; isRefused(err) {
			return err
		}
	}
	return fallback
}

func isRefused(err error) bool {
	for _, e := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refused completes what a server said that refused the credentials.
func (w *watcher) refused(err error) error {
	if w.embedded != nil {
		return fmt.Errorf("%w at %s (%v), %s: correct %s, or %s", ErrRefused, w.where, err, w.embedded.Sent(), w.cfg.Credentials.from(), credentials.Elsewhere)
	}
	return fmt.Errorf("%w at %s (%v): correct %s", ErrRefused, w.where, err, w.cfg.Credentials.from())
}

// plain shortens what nats.go says when nothing listens or nothing answers.
// Our own bound and that of a read from the socket may end at the same moment;
// it is one event for the reader, so it has one name.
func plain(err error) error {
	if errors.Is(err, nats.ErrNoServers) {
		return errors.New("nothing listens there")
	}
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		return errors.New("no answer in time")
	}
	return err
}

// watcher turns the callbacks of one connection into log lines.
type watcher struct {
	log *slog.Logger
	cfg Config
	// where is what was connected to, redacted.
	where string
	// inboxes matches what makes errors of one kind differ.
	inboxes *regexp.Regexp
	// embedded finds the credentials of an embedded server; nil when others are given.
	embedded *credentials.Dialer

	mu     sync.Mutex
	errors map[string]*repeated // asynchronous ones since the last reconnect, by their kind
	owned  bool                 // Connect has returned the connection, so a refusal has to be reported by callback
}

func (w *watcher) returned() {
	w.mu.Lock()
	w.owned = true
	w.mu.Unlock()
}

func (w *watcher) connected(nc *nats.Conn) {
	w.log.Info("connected to NATS", "url", ConnectedURL(nc), "server", nc.ConnectedServerName())
}

func (w *watcher) disconnected(nc *nats.Conn, err error) {
	if nc.IsClosed() {
		return // our own Close
	}
	w.log.Warn("disconnected from NATS, reconnecting", "error", err)
}

func (w *watcher) reconnected(nc *nats.Conn) {
	forgetViolations(nc)
	w.mu.Lock()
	w.errors = nil
	w.mu.Unlock()
	w.log.Info("reconnected to NATS", "url", ConnectedURL(nc), "server", nc.ConnectedServerName())
}

// repeated is an error that comes again, as a permission that is missing does at every try.
type repeated struct {
	times  int
	logged time.Time
}

// repeatEvery is how often such an error is logged.
const repeatEvery = 10 * time.Minute

func (w *watcher) failed(nc *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrBadHeaderMsg) { // of a message, which came all the same: its reader says what becomes of it
		return
	}
	if isRefused(err) {
		w.log.Warn("NATS refused the credentials, trying again", "url", w.where, "error", err)
		return
	}
	kind := w.inboxes.ReplaceAllString(err.Error(), "$1…")
	noteViolation(nc, kind, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.errors == nil || len(w.errors) >= maxErrors {
		w.errors = make(map[string]*repeated)
	}
	if w.errors[kind] == nil {
		w.errors[kind] = &repeated{}
	}
	e := w.errors[kind]
	if e.times++; time.Since(e.logged) < repeatEvery {
		return
	}
	e.logged = time.Now()
	attrs := []any{"error", err}
	if sub != nil {
		attrs = append(attrs, "subject", sub.Subject)
	}
	if e.times > 1 {
		attrs = append(attrs, "times", e.times)
	}
	w.log.Error("NATS error", attrs...)
}

// maxErrors bounds how many kinds of errors are told apart.
const maxErrors = 256

// inboxes matches subjects that differ in each error of one kind: of answers, acknowledgements
// and readers.
func inboxes(prefix string) *regexp.Regexp {
	return regexp.MustCompile(`(` + regexp.QuoteMeta(prefix) + `|\$JS\.ACK\.|\.CONSUMER\.(?:MSG\.NEXT|[A-Z]+)\.\w+\.)[^ "]*`)
}

// closed reports a connection that nats.go gave up: it does so when one server
// refuses twice in a row, which leaves a moment to replace a credentials file.
// It also gives up when a server has ended the connection for what was sent, as a message
// over a max_payload that was lowered meanwhile.
func (w *watcher) closed(nc *nats.Conn) {
	forgetViolations(nc)
	err := nc.LastError()
	ended := err != nil && strings.HasPrefix(strings.ToLower(err.Error()), "nats: maximum ")
	if !isRefused(err) && !ended {
		return
	}
	w.mu.Lock()
	owned := w.owned
	w.owned = false
	w.mu.Unlock()
	if !owned {
		return
	}
	if ended {
		err = fmt.Errorf("%w (%w): start again, so that its limits are read", ErrEnded, err)
	} else {
		err = w.refused(err)
	}
	w.log.Error("NATS connection closed", "error", err)
	if w.cfg.OnClosed != nil {
		w.cfg.OnClosed(err)
	}
}

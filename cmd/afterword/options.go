package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/console"
	"github.com/afterword-io/afterword/internal/embedded"
	"github.com/afterword-io/afterword/internal/gateway"
	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// Each group of options is defined once; a command takes the groups it uses.

// natsOptions say where NATS is, and who connects.
type natsOptions struct {
	url      string
	context  string // whose members [cli.settle] has put into the others
	dataDirs foldersOf
	stream.Credentials
	connect, request      time.Duration
	domain, prefix, inbox string
}

func (o *natsOptions) add(f flags, without string) {
	f.text(&o.url, "", "nats-url", "NATS_URL", "`URL` of NATS, comma-separated for a cluster; none means "+without)
	f.text(&o.context, "", "nats-context", "NATS_CONTEXT", "`NAME` of a context of the nats command, or its file: for what is not given otherwise")
	f.text(&o.Creds, "", "nats-creds", "NATS_CREDS", "NATS credentials `FILE`")
	f.text(&o.NKey, "", "nats-nkey", "NATS_NKEY", "`FILE` with the seed of an nkey")
	f.text(&o.User, "", "nats-user", "NATS_USER", "`NAME` of the NATS user")
	f.text(&o.Password, "", "nats-password", "NATS_PASSWORD", "`TEXT` of the NATS user's password; others see it on a command line, not in the environment or --config")
	f.text(&o.Token, "", "nats-token", "NATS_TOKEN", "`TEXT` of the NATS token; as with the password")
	f.text(&o.CA, "", "nats-ca", "NATS_CA", "PEM `FILE` of who may have signed the servers' certificates")
	f.text(&o.Cert, "", "nats-cert", "NATS_CERT", "PEM `FILE` of the client's certificate")
	f.text(&o.Key, "", "nats-key", "NATS_KEY", "PEM `FILE` of its key")
	f.text(&o.domain, "", "nats-js-domain", "NATS_JS_DOMAIN", "`NAME` of the JetStream domain that has the streams")
	f.text(&o.prefix, "", "nats-js-prefix", "NATS_JS_PREFIX", "`SUBJECT` prefix under which an account imports the JetStream API; instead of a domain")
	f.text(&o.inbox, "", "nats-inbox-prefix", "NATS_INBOX_PREFIX", "`SUBJECT` prefix of the answers to this process; _INBOX when none is given")
	f.wait(&o.connect, stream.DefaultConnectTimeout, "connect-timeout", "how long connecting to NATS may take; a service goes on trying after that")
	f.wait(&o.request, stream.DefaultRequestTimeout, "request-timeout", "bound of one request to JetStream, and of waiting for the next message when the stream is read")
	f.secret("nats-url", stream.RedactURL)
	f.secret("nats-password", masked)
	f.secret("nats-token", masked)
	o.dataDirs = f.dataDirs()
}

func (o *natsOptions) config(name string, log *slog.Logger) stream.Config {
	return stream.Config{
		URL: o.url, Credentials: o.Credentials, DataDirs: o.dataDirs(), Name: "afterword " + name, Timeout: o.connect, Logger: log, InboxPrefix: o.inbox,
		API: stream.API{Domain: o.domain, Prefix: o.prefix, Request: o.request},
	}
}

// ownNATS is what a command without an embedded server connects to by default.
const ownNATS = stream.DefaultURL

// streamOptions are the limits that a stream is created with.
type streamOptions struct {
	maxAge   time.Duration
	maxBytes int64
	replicas int
}

// add defines the flags with a prefix. Their environment variables are the same everywhere.
func (o *streamOptions) add(f flags, prefix string) {
	f.age(&o.maxAge, prefix+"max-age", "AFTERWORD_STREAM_MAX_AGE",
		"how long the stream keeps turns, as in 12h or 30d, or unlimited; of a new stream 30d")
	f.bytes(&o.maxBytes, 0, prefix+"max-bytes", "AFTERWORD_STREAM_MAX_BYTES",
		"how much the stream holds before it refuses, as in 10GiB, or unlimited; of a new stream unlimited, embedded 10GiB", true)
	f.count(&o.replicas, 0, prefix+"replicas", "AFTERWORD_STREAM_REPLICAS",
		"copies that a cluster keeps of the stream: 1, 3 or 5; of a new stream 1", 1, 3, 5)
}

func (o *streamOptions) config() stream.StreamConfig {
	return stream.StreamConfig{MaxAge: o.maxAge, MaxBytes: o.maxBytes, Replicas: o.replicas}
}

// redisOptions say where Redis is and how long it may take.
type redisOptions struct {
	url                              string
	ca, cert, key                    string // files, PEM
	keyFile                          string // of the key of entries
	timeout, dial, read, write, pool time.Duration
	stall, breaker, check, doubt     time.Duration
	poolSize                         int
	dataDirs                         foldersOf
}

// noRedis as a URL means that there is no cache.
const noRedis = "none"

func (o *redisOptions) add(f flags, without string) {
	f.text(&o.url, "", "redis-url", "REDIS_URL", "`URL` of Redis, or \"none\" for no cache; none given means "+without)
	f.secret("redis-url", redactRedis)
	f.text(&o.ca, "", "redis-ca", "REDIS_CA", "PEM `FILE` of who may have signed the certificate of Redis, for rediss")
	f.text(&o.cert, "", "redis-cert", "REDIS_CERT", "PEM `FILE` of the client's certificate")
	f.text(&o.key, "", "redis-key", "REDIS_KEY", "PEM `FILE` of its key")
	f.text(&o.keyFile, "", "cache-key-file", "", "`FILE` of the key that signs what Redis holds, the same for all processes; none means one kept in NATS")
	o.dataDirs = f.dataDirs()
	f.wait(&o.timeout, cache.DefaultOpTimeout, "redis-timeout", "bound of one Redis operation")
	f.wait(&o.dial, cache.DefaultDialTimeout, "redis-dial-timeout", "bound of connecting to Redis")
	f.wait(&o.read, cache.DefaultReadTimeout, "redis-read-timeout", "bound of reading one answer of Redis")
	f.wait(&o.write, cache.DefaultWriteTimeout, "redis-write-timeout", "bound of writing to Redis")
	f.count(&o.poolSize, cache.DefaultPoolSize, "redis-pool-size", "", "connections to Redis, per node")
	f.wait(&o.pool, cache.DefaultPoolTimeout, "redis-pool-timeout", "bound of waiting for one of them")
	f.wait(&o.stall, cache.DefaultStallAfter, "redis-stall-after", "how long none of the connections, all in use, was answered on, when histories are read elsewhere instead of waiting for one")
	f.wait(&o.breaker, cache.DefaultBreakerWait, "redis-breaker-wait", "how long a Redis that failed three times in a row is left alone before it is asked again")
	f.wait(&o.check, cache.DefaultCheckEvery, "redis-check-every", "time between two checks whether Redis takes reads and writes")
	f.wait(&o.doubt, cache.DefaultDoubtAfter, "redis-doubt-after", "time without word from NATS, or a consumer, after which Redis is doubted")
}

// redactRedis is a Redis URL, or what stands for one, without its secrets.
func redactRedis(url string) string {
	if url == "" || url == noRedis {
		return url
	}
	return cache.RedactURL(url)
}

func (o *redisOptions) none() bool { return o.url == noRedis }

// storeOptions say where the files are.
type storeOptions struct {
	dir         string
	fileTimeout time.Duration
	layout      string

	sessionMax     int64
	readMemory     int64
	readMemoryWait time.Duration
}

func (o *storeOptions) add(f flags) {
	f.text(&o.dir, defaultDataDir, dataDirFlag, "", "`FOLDER` of all data; transcripts are in transcripts/ under it")
	f.wait(&o.fileTimeout, transcript.DefaultFileTimeout, "file-timeout", "bound of one file operation")
}

// addLimit is for commands that write transcripts.
func (o *storeOptions) addLimit(f flags) {
	f.bytes(&o.sessionMax, transcript.DefaultSessionMaxBytes, "session-max-bytes", "", "size of a session past which it takes no new turns, as in 1GiB, or unlimited", true)
}

// addReaders is for services, which many ask at a time.
func (o *storeOptions) addReaders(f flags) {
	f.bytes(&o.readMemory, transcript.DefaultReadMemory, "read-memory", "", "memory that all readers of transcripts may hold together, as in 256MiB", false)
	f.wait(&o.readMemoryWait, transcript.DefaultReadMemoryWait, "read-memory-wait", "maximum time that a reader waits for its part of that memory")
}

// addLayout is for commands that may create the folder.
func (o *storeOptions) addLayout(f flags) {
	f.choice(&o.layout, "", "layout", "how a new transcripts folder is laid out: sharded over 256 folders (the default), or flat, as <session>.json in one folder",
		string(transcript.Sharded), string(transcript.Flat))
}

func (o *storeOptions) transcripts() string { return filepath.Join(o.dir, "transcripts") }

// publisherOptions bound what waits for the stream.
type publisherOptions struct {
	turns, window                  int
	bytes                          int64
	ackTimeout, retryMin, retryMax time.Duration
}

func (o *publisherOptions) add(f flags) {
	f.count(&o.turns, publisher.DefaultBufferTurns, "buffer-turns", "", "turns that may wait for the stream")
	f.bytes(&o.bytes, publisher.DefaultBufferBytes, "buffer-bytes", "", "bytes of turns that may wait for the stream", false)
	f.count(&o.window, publisher.DefaultWindow, "publish-window", "", "turns that are sent and not yet acknowledged")
	f.wait(&o.ackTimeout, publisher.DefaultAckTimeout, "publish-ack-timeout", "how long an acknowledgement may take before a turn is sent again")
	f.wait(&o.retryMin, publisher.DefaultRetryMin, "publish-retry-min", "shortest wait between tries")
	f.wait(&o.retryMax, publisher.DefaultRetryMax, "publish-retry-max", "longest wait between tries")
}

func (o *publisherOptions) config() publisher.Config {
	return publisher.Config{
		BufferTurns: o.turns, BufferBytes: o.bytes, Window: o.window,
		AckTimeout: o.ackTimeout, RetryMin: o.retryMin, RetryMax: o.retryMax,
	}
}

// spoolOptions say where turns are kept that are not stored yet.
type spoolOptions struct {
	dir      string
	maxBytes int64
}

// noSpool as a folder means that there is none.
const noSpool = "none"

func (o *spoolOptions) add(f flags, without string) {
	f.text(&o.dir, "", "spool-dir", "", "`FOLDER` of this process alone that keeps turns until the stream has them, or \"none\"; none given means "+without)
	f.bytes(&o.maxBytes, publisher.DefaultSpoolMaxBytes, "spool-max-bytes", "", "how much it holds; past that turns are only buffered", false)
}

// eventOptions say how turns are shown as they are stored.
type eventOptions struct {
	clients, perClient, queue, resume int
	heartbeat, retryMax               time.Duration
}

func (o *eventOptions) add(f flags) {
	f.count(&o.clients, live.DefaultClients, "events-clients", "", "clients that may listen to /v1/events at one time")
	f.count(&o.perClient, live.DefaultPerClient, "events-per-client", "", "maximum number of them with one address")
	f.count(&o.queue, live.DefaultQueueTurns, "events-queue", "", "turns that may wait for one of them before it misses the oldest")
	f.count(&o.resume, live.DefaultResume, "events-resume", "", "turns of the past that one of them gets before it has to come again")
	f.wait(&o.heartbeat, gateway.DefaultHeartbeat, "events-heartbeat", "how often one of them hears something when there are no turns")
	f.wait(&o.retryMax, live.DefaultRetryMax, "events-retry-max", "longest wait between tries to read the stream for them")
}

// httpOptions bound requests over HTTP.
type httpOptions struct {
	allowedHosts, corsOrigins string
	unauthenticated           bool
	hosts                     httpio.Hosts // as parseLists has read them
	origins                   httpio.Origins

	header, read, send, idle, check, wait time.Duration
	connections                           int
	batchBytes, bodyMemory                int64
	batchTurns, keys                      int
}

// add is for every command that serves HTTP.
func (o *httpOptions) add(f flags) {
	f.text(&o.allowedHosts, "", "allowed-hosts", "", "`HOSTS`, comma-separated, to answer for beside loopback and the address that was connected to")
	f.truth(&o.unauthenticated, "allow-unauthenticated", "listen where other machines may connect, without authentication")
	f.wait(&o.header, gateway.DefaultReadHeaderTimeout, "http-header-timeout", "how long the header of a request may take to come")
	f.wait(&o.read, gateway.DefaultReadTimeout, "http-read-timeout", "how long all of a request may take to come")
	f.wait(&o.send, gateway.DefaultSendTimeout, "http-send-timeout", "how long a client may take to receive an answer, or one event")
	f.wait(&o.idle, gateway.DefaultIdleTimeout, "http-idle-timeout", "how long a connection may be idle")
	f.count(&o.connections, gateway.DefaultMaxConnections, "http-connections", "", "maximum number of open HTTP connections; past it a new one ends an idle one")
	f.wait(&o.check, gateway.DefaultCheckTimeout, "check-timeout", "bound of each check of /readyz")
}

// addTurns is for those that take turns in.
func (o *httpOptions) addTurns(f flags) {
	f.text(&o.corsOrigins, "", "cors-origins", "", "`ORIGINS`, comma-separated, whose pages may use /v1, as in https://chat.example.org")
	f.wait(&o.wait, gateway.DefaultMaxWait, "max-wait", "the longest that a client may ask to wait for, with Prefer: wait")
	f.bytes(&o.bodyMemory, gateway.DefaultBodyMemory, "body-memory", "", "memory that the bodies of all requests being read may hold together", false)
	f.bytes(&o.batchBytes, gateway.DefaultMaxBatchBytes, "batch-max-bytes", "", "bytes of one batch of turns over HTTP", false)
	f.count(&o.batchTurns, gateway.DefaultMaxBatchTurns, "batch-max-turns", "", "turns of one batch over HTTP")
	f.count(&o.keys, gateway.DefaultMaxKeys, "idempotency-keys", "", "turns that came with an Idempotency-Key and are remembered")
}

// parseLists reads the lists of hosts and origins.
func (o *httpOptions) parseLists() (err error) {
	if o.hosts, err = httpio.ParseHosts(o.allowedHosts); err != nil {
		return fmt.Errorf("--allowed-hosts: %w", err)
	}
	if o.origins, err = httpio.ParseOrigins(o.corsOrigins); err != nil {
		return fmt.Errorf("--cors-origins: %w", err)
	}
	return nil
}

// descriptorsFor bounds a number of connections by the file descriptors that the process may have: files and NATS
// need the other half.
func descriptorsFor(connections int) int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return connections
	}
	return max(1, int(min(uint64(connections), uint64(limit.Cur)/2)))
}

func (o *httpOptions) config() gateway.Config {
	return gateway.Config{
		ReadHeaderTimeout: o.header, ReadTimeout: o.read, SendTimeout: o.send, IdleTimeout: o.idle, CheckTimeout: o.check,
		MaxConnections: descriptorsFor(o.connections),
		MaxWait:        o.wait, MaxBatchBytes: o.batchBytes, MaxBatchTurns: o.batchTurns, MaxKeys: o.keys,
	}
}

// consoleOptions say who may do what with the console.
type consoleOptions struct {
	basePath string
	hosts    string
	readOnly bool

	sampleEvery, reportEvery, lookup, change, quiet time.Duration
}

func (o *consoleOptions) add(f flags) {
	f.text(&o.basePath, "", "base-path", "", "`PATH` in front of /console/ in what browsers ask a proxy for, as in /afterword")
	f.text(&o.hosts, "", "console-host", "", "`HOSTS`: the old name of --allowed-hosts")
	f.Lookup("console-host").Hidden = true
	f.truth(&o.readOnly, "read-only", "the console refuses to requeue, discard and replay")
	f.wait(&o.sampleEvery, console.DefaultSampleEvery, "console-sample-every", "how often the console takes figures while somebody looks")
	f.wait(&o.reportEvery, console.DefaultReportEvery, "console-report-every", "how often, at most, it looks for what is wrong")
	f.wait(&o.lookup, console.DefaultLookupTimeout, "console-lookup-timeout", "bound of what one of its requests reads")
	f.wait(&o.change, console.DefaultChangeTimeout, "console-change-timeout", "bound of what one of its requests changes; a replay goes on by itself")
	f.wait(&o.quiet, console.DefaultQuiet, "console-quiet", "after how much silence it waits for no more consumers to answer")
}

// check refuses what cannot be served.
func (o *consoleOptions) check() error {
	if err := console.CheckBasePath(o.basePath); err != nil {
		return fmt.Errorf("--base-path: %w", err)
	}
	return nil
}

// serviceOptions are the flags of serve, gateway and consume. Each of them has
// those that it uses; the others keep their defaults.
type serviceOptions struct {
	nats      natsOptions
	limits    streamOptions
	redis     redisOptions
	store     storeOptions
	publisher publisherOptions
	spool     spoolOptions
	logs      logOptions
	console   consoleOptions
	services  []string // that a console asks too
	http      httpOptions

	embeddedNATS, embeddedRedis string // addresses
	listen                      string
	group                       string
	rebind                      bool
	ackWait                     time.Duration
	probeMax, walk              time.Duration
	history                     time.Duration
	events                      eventOptions
	drain                       time.Duration
	watch                       time.Duration
	pprof                       string // address; "" is none
}

func (o *serviceOptions) addEmbedded(f flags) {
	f.text(&o.embeddedNATS, embedded.DefaultNATS, "embedded-nats", "", "loopback `ADDRESS` of the embedded NATS server, which runs unless --nats-url is given")
	f.text(&o.embeddedRedis, embedded.DefaultRedis, "embedded-redis", "", "loopback `ADDRESS` of the embedded Redis-compatible server, which runs unless --redis-url is given")
}

func (o *serviceOptions) addListen(f flags, def, usage string) {
	f.text(&o.listen, def, "listen", "", usage)
	o.http.add(f)
}

func (o *serviceOptions) addGateway(f flags, withoutSpool string) {
	o.publisher.add(f)
	o.spool.add(f, withoutSpool)
	f.wait(&o.history, cache.DefaultHistoryTimeout, "history-timeout", "bound of loading a history, all fallbacks together")
	o.http.addTurns(f)
	o.events.add(f)
}

func (o *serviceOptions) addConsumer(f flags) {
	o.store.addLayout(f)
	o.store.addLimit(f)
	f.text(&o.group, consumer.DefaultGroup, "group", "", "`NAME` of the consumers that share one transcripts folder; another name keeps a full copy")
	f.wait(&o.ackWait, consumer.DefaultAckWait, "ack-wait", "when a turn that was fetched is given to another consumer; at least twice --file-timeout and 5s")
	f.wait(&o.probeMax, consumer.DefaultProbeMax, "probe-max", "longest wait between tries when a disk or NATS is in trouble")
	f.wait(&o.walk, consumer.DefaultWalkEvery, "walk-every", "how often the transcripts folder is walked, for what was left to fold and what Redis has to be told of")
}

// addCommon defines what every service has that takes turns in or writes them.
func (o *serviceOptions) addCommon(f flags) {
	o.store.add(f)
	o.store.addReaders(f)
	o.limits.add(f, "stream-")
	o.addProcess(f)
}

// addProcess defines what every process has that runs until it is stopped.
func (o *serviceOptions) addProcess(f flags) {
	f.wait(&o.watch, stream.DefaultWatchEvery, "watch-every", "how often the streams and the group are looked at: a few requests each time")
	f.wait(&o.drain, defaultDrain, "drain-timeout", "how long a stop may take to finish what was begun")
	f.text(&o.pprof, "", "pprof", "", "`ADDRESS` to serve profiles of the process on (net/http/pprof); none by default")
	o.logs.add(f, "info")
}

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// scene is what runs beside one script. Servers stop when all scripts have ended.
type scene struct {
	t         *testing.T
	processes map[string]*process
	nats      map[string]*servertest.NATSServer
	redis     map[string]*servertest.RedisServer
	told      output // what the supervisor was told
	seen      int    // how much of that a script has looked at
}

type sceneKey struct{}

func newScene(t *testing.T) *scene {
	return &scene{t: t, processes: make(map[string]*process), nats: make(map[string]*servertest.NATSServer), redis: make(map[string]*servertest.RedisServer)}
}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// ports VAR...: sets each variable to a free loopback host:port.
func cmdPorts(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Setenv(name, servertest.FreeAddr(sceneOf(ts).t))
	}
}

// hole VAR: sets VAR to an address that accepts connections and never answers.
func cmdHole(ts *testscript.TestScript, _ bool, args []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { ln.Close() })
	ts.Setenv(args[0], ln.Addr().String())
}

// nats VAR [password|plain|mute|absent]: starts a NATS server and sets VAR to its URL.
// password demands one, plain has no JetStream, the JetStream of mute
// takes requests and does not answer, absent is not up yet.
// nats VAR conf FILE: starts one with the settings of FILE, in which $NAME is a variable.
// nats VAR start|stop|relock: acts on it; relock starts it again with another password.
func cmdNATS(ts *testscript.TestScript, _ bool, args []string) {
	s := sceneOf(ts)
	what := strings.Join(args[1:], " ")
	if srv := s.nats[args[0]]; srv != nil {
		switch what {
		case "start":
			srv.Restart()
		case "stop":
			srv.Stop()
		case "relock":
			srv.Restart(servertest.UserPass("bob", "0ther"))
		default:
			ts.Fatalf("cannot %q", what)
		}
		return
	}
	var options []servertest.NATSOption
	if len(args) == 3 && args[1] == "conf" {
		options = append(options, servertest.Settings(s.t, os.Expand(ts.ReadFile(args[2]), func(name string) string {
			if value := ts.Getenv(name); value != "" {
				return value
			}
			return "$" + name // of a subject, as in $JS.API
		})))
	}
	switch what {
	case "password":
		options = append(options, servertest.UserPass("bob", "s3cret"))
	case "plain", "mute":
		options = append(options, servertest.WithoutJetStream())
	}
	srv := servertest.NATS(s.t, options...)
	switch what {
	case "absent":
		srv.Stop()
	case "mute":
		nc, err := nats.Connect(srv.URL())
		ts.Check(err)
		ts.Defer(nc.Close)
		_, err = nc.Subscribe("$JS.API.>", func(*nats.Msg) {})
		ts.Check(err)
		ts.Check(nc.Flush())
	}
	ts.Setenv(args[0], srv.URL())
	ts.Setenv(args[0]+"_ADDR", srv.Addr())
	s.nats[args[0]] = srv
}

// nkeys NAME...: makes an nkey for each, its seed in the file NAME.nk, and sets AFTERWORD_NAME_NKEY to
// the public half.
func cmdNkeys(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		pair, err := nkeys.CreateUser()
		ts.Check(err)
		seed, err := pair.Seed()
		ts.Check(err)
		public, err := pair.PublicKey()
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name+".nk"), seed, 0o600))
		ts.Setenv("AFTERWORD_"+strings.ToUpper(name)+"_NKEY", public)
	}
}

// redis VAR [password]: starts a Redis server and sets VAR to its URL. With tls it takes only clients with a
// certificate: VAR_CA, VAR_CERT and VAR_KEY are the files.
// redis VAR hang|resume|kill|start: acts on it.
func cmdRedis(ts *testscript.TestScript, _ bool, args []string) {
	s := sceneOf(ts)
	what := strings.Join(args[1:], " ")
	if srv := s.redis[args[0]]; srv != nil {
		switch what {
		case "hang":
			srv.Hang()
		case "resume":
			srv.Resume()
		case "kill":
			srv.Kill()
		case "start":
			srv.Restart()
		default:
			ts.Fatalf("cannot %q", what)
		}
		return
	}
	if what == "tls" {
		dir := s.t.TempDir()
		ca := servertest.NewAuthority(s.t, dir, "ca")
		srv := servertest.RedisTLS(s.t, ca)
		cert, key := ca.Issue("client")
		for name, value := range map[string]string{"": srv.TLSURL(), "_ADDR": srv.Addr(), "_CA": ca.CA, "_CERT": cert, "_KEY": key} {
			ts.Setenv(args[0]+name, value)
		}
		s.redis[args[0]] = srv
		return
	}
	srv := servertest.Redis(s.t)
	if what == "password" {
		conn, err := net.Dial("tcp", srv.Addr())
		ts.Check(err)
		defer conn.Close()
		_, err = io.WriteString(conn, "CONFIG SET requirepass s3cret\r\n")
		ts.Check(err)
		answer := make([]byte, 5)
		_, err = io.ReadFull(conn, answer)
		ts.Check(err)
	}
	ts.Setenv(args[0], srv.URL())
	ts.Setenv(args[0]+"_ADDR", srv.Addr())
	s.redis[args[0]] = srv
}

// withJetStream calls fn with a connection to the server at url.
func withJetStream(ts *testscript.TestScript, url string, fn func(jetstream.JetStream) error, options ...nats.Option) {
	nc, err := nats.Connect(url, options...)
	ts.Check(err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	ts.Check(err)
	ts.Check(fn(js))
}

// asRole are the options of a connection with the nkey and the inboxes of a role.
func asRole(ts *testscript.TestScript, name string) []nats.Option {
	key, err := nats.NkeyOptionFromSeed(ts.MkAbs(name + ".nk"))
	ts.Check(err)
	return []nats.Option{key, nats.CustomInboxPrefix("_INBOX_" + name)}
}

// denied URL ROLE publish|subscribe SUBJECT...: the server lets the role do none of it.
func cmdDenied(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: denied URL ROLE publish|subscribe SUBJECT...")
	}
	refused := make(chan error, len(args))
	nc, err := nats.Connect(args[0], append(asRole(ts, args[1]), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))...)
	ts.Check(err)
	defer nc.Close()
	for _, subject := range args[3:] {
		if args[2] == "publish" {
			ts.Check(nc.Publish(subject, nil))
		} else {
			_, err := nc.SubscribeSync(subject)
			ts.Check(err)
		}
		ts.Check(nc.FlushTimeout(servertest.StartTimeout))
		select {
		case err := <-refused: // the server says so before it answers the flush
			if !errors.Is(err, nats.ErrPermissionViolation) {
				ts.Fatalf("%s %s: %v", args[2], subject, err)
			}
		case <-time.After(time.Second):
			ts.Fatalf("%s may %s %s", args[1], args[2], subject)
		}
	}
}

// asyncstream URL: makes a stream of turns that acknowledges before it has stored.
func cmdAsyncStream(ts *testscript.TestScript, _ bool, args []string) {
	withJetStream(ts, args[0], func(js jetstream.JetStream) error {
		_, err := js.CreateStream(sceneOf(ts).t.Context(), jetstream.StreamConfig{
			Name: stream.Turns, Subjects: []string{stream.TurnSubjects}, PersistMode: jetstream.AsyncPersistMode, AllowDirect: true, Discard: jetstream.DiscardNew,
		})
		if err != nil {
			return err
		}
		_, err = js.CreateStream(sceneOf(ts).t.Context(), jetstream.StreamConfig{Name: stream.Dead, Subjects: []string{stream.DeadSubjects}})
		return err
	})
}

// limitstream URL: gives the streams limits that nobody needs.
func cmdLimitStream(ts *testscript.TestScript, _ bool, args []string) {
	withJetStream(ts, args[0], func(js jetstream.JetStream) error {
		ctx := sceneOf(ts).t.Context()
		for name, change := range map[string]func(*jetstream.StreamConfig){
			stream.Turns: func(c *jetstream.StreamConfig) { c.MaxMsgs, c.MaxConsumers, c.MaxMsgSize = 10, 1, 64<<10 },
			stream.Dead:  func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour },
		} {
			s, err := js.Stream(ctx, name)
			if err != nil {
				return err
			}
			cfg := s.CachedInfo().Config
			change(&cfg)
			if _, err := js.UpdateStream(ctx, cfg); err != nil {
				return err
			}
		}
		return nil
	})
}

// removestream URL NAME: deletes a stream.
func cmdRemoveStream(ts *testscript.TestScript, _ bool, args []string) {
	withJetStream(ts, args[0], func(js jetstream.JetStream) error { return js.DeleteStream(sceneOf(ts).t.Context(), args[1]) })
}

// removeconsumer URL GROUP: deletes the durable consumer of a group.
func cmdRemoveConsumer(ts *testscript.TestScript, _ bool, args []string) {
	withJetStream(ts, args[0], func(js jetstream.JetStream) error {
		return js.DeleteConsumer(sceneOf(ts).t.Context(), stream.Turns, args[1])
	})
}

// sealstream URL: seals the stream of turns.
func cmdSealStream(ts *testscript.TestScript, _ bool, args []string) {
	withJetStream(ts, args[0], func(js jetstream.JetStream) error {
		ctx := sceneOf(ts).t.Context()
		s, err := js.Stream(ctx, stream.Turns)
		if err != nil {
			return err
		}
		cfg := s.CachedInfo().Config
		cfg.Sealed = true
		_, err = js.UpdateStream(ctx, cfg)
		return err
	})
}

// rawpublish URL SUBJECT PAYLOAD [ROLE]: stores any message.
func cmdRawPublish(ts *testscript.TestScript, _ bool, args []string) {
	var options []nats.Option
	if len(args) > 3 {
		options = asRole(ts, args[3])
	}
	withJetStream(ts, args[0], func(js jetstream.JetStream) error {
		_, err := js.Publish(sceneOf(ts).t.Context(), args[1], []byte(args[2]))
		return err
	}, options...)
}

// http STATUS METHOD URL [BODY|@FILE]: asks once; the answer is the standard output.
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: http STATUS METHOD URL [BODY]")
	}
	send := strings.Join(args[3:], " ")
	if file, ok := strings.CutPrefix(send, "@"); ok {
		send = ts.ReadFile(file)
	}
	status, body, err := request(args[1], args[2], send)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), body)
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("status %d, want %s:\n%s", status, args[0], body)
	}
}

// ready STATUS URL [PATTERN]: in the end the URL answers with STATUS, and matches.
func cmdReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: ready STATUS URL [PATTERN]")
	}
	re := regexp.MustCompile(strings.Join(args[2:], " "))
	var last string
	if !poll(func() bool {
		status, body, err := request(http.MethodGet, args[1], "")
		last = fmt.Sprint(status, " ", body, " ", err)
		if err != nil || strconv.Itoa(status) != args[0] || !re.MatchString(body) {
			return false
		}
		fmt.Fprintln(ts.Stdout(), body)
		return true
	}) {
		ts.Fatalf("at last: %s", last)
	}
}

func request(method, url, body string) (status int, answer string, err error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	switch {
	case strings.HasSuffix(url, "/v1/turns"):
		req.Header.Set("Content-Type", "application/x-ndjson")
	case body != "":
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// lines FILE N [BYTES]: writes N turns of ten sessions, with so much text in each.
func cmdLines(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	long := ""
	if len(args) > 2 {
		bytes, err := strconv.Atoi(args[2])
		ts.Check(err)
		long = strings.Repeat("x", bytes)
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	for i := range n {
		fmt.Fprintf(f, `{"session_id":"s%d","user":"question %d%s","assistant":"answer %d"}`+"\n", i%10, i, long, i)
	}
	ts.Check(f.Close())
}

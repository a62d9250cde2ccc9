package stream_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// lockedBuffer is written by the connection's goroutine.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// A permission that is missing is reported at every try, and logged once.
func TestRepeatedErrorsAreLoggedOnce(t *testing.T) {
	srv := servertest.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"allowed"}}, Subscribe: &server.SubjectPermission{Allow: []string{"allowed"}}}}}
	})
	inbox := func(nc *nats.Conn, _ int) error { _, err := nc.SubscribeSync(nc.NewInbox()); return err }
	publish := func(subject string) func(*nats.Conn, int) error {
		return func(nc *nats.Conn, k int) error {
			return nc.Publish(strings.ReplaceAll(subject, "%", strconv.Itoa(k)), nil)
		}
	}
	for what, c := range map[string]struct {
		prefix string
		try    func(*nats.Conn, int) error
	}{
		"one subject":         {try: publish("denied")},
		"fetching":            {try: publish("$JS.API.CONSUMER.MSG.NEXT.AFTERWORD_TURNS.x%")},
		"readers":             {try: publish("JS.app.API.CONSUMER.CREATE.AFTERWORD_TURNS.x%.afterword.turns.a")},
		"acknowledgements":    {try: publish("$JS.ACK.AFTERWORD_TURNS.g.1.%.1.1.0")},
		"inboxes":             {try: inbox},
		"inboxes of a role":   {"_INBOX_web", inbox},
		"inboxes with a dot":  {"answers.web", inbox},
		"several permissions": {try: func(nc *nats.Conn, k int) error { return nc.Publish([]string{"a", "b"}[k%2], nil) }},
	} {
		out := &lockedBuffer{}
		nc := connect(t, stream.Config{URL: srv.URL(), InboxPrefix: c.prefix, Credentials: stream.Credentials{User: "u", Password: "p"}, Logger: slog.New(slog.NewTextHandler(out, nil))})
		for k := range 64 {
			if err := c.try(nc, k); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Publish("last", nil); err != nil {
			t.Fatal(err)
		}
		servertest.Eventually(t, patience, "the last error", func() bool { return out.count("last") == 1 })
		want := 1
		if what == "several permissions" {
			want = 2
		}
		if n := out.count("NATS error") - 1; n != want {
			t.Errorf("%s: %d lines for 64 errors", what, n)
		}
	}
}

// What had no answer names the permission that is missing, whichever was refused last, and only while it is.
func TestMissingPermissionIsNamed(t *testing.T) {
	srv := servertest.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.INFO.>", "$JS.API.CONSUMER.CREATE.>", "afterword.turns.*"}}}}}
	})
	nc := connect(t, stream.Config{URL: srv.URL(), Credentials: stream.Credentials{User: "u", Password: "p"}})
	js, err := stream.JetStream(nc, stream.API{Request: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{stream.Turns, stream.Cache} {
		if err := nc.Publish("$JS.API.STREAM.INFO."+name, nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err = stream.Info(t.Context(), js)
	servertest.OneLine(t, err, "look up stream "+stream.Turns, "NATS does not permit it", "STREAM.INFO."+stream.Turns)
	if !stream.Denied(err) || !errors.Is(err, stream.ErrUnreachable) {
		t.Error(err)
	}
	if err := stream.CheckDenied(nc, time.Minute, "afterword.turns."); err != nil {
		t.Errorf("nothing of the kind was refused: %v", err)
	}
	if err := stream.CheckDenied(nc, 0, stream.Turns); err != nil {
		t.Errorf("it was refused long ago: %v", err)
	}
}

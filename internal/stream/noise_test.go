package stream_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

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

// A permission that is missing is reported at every try, and logged a few times.
func TestRepeatedErrorsAreLoggedFewTimes(t *testing.T) {
	srv := servertest.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"allowed"}}}}}
	})
	out := &lockedBuffer{}
	nc := connect(t, stream.Config{URL: srv.URL(), Credentials: stream.Credentials{User: "u", Password: "p"}, Logger: slog.New(slog.NewTextHandler(out, nil))})
	for i, subject := range []string{"denied", "$JS.API.CONSUMER.MSG.NEXT.AFTERWORD_TURNS.x%d", "JS.app.API.CONSUMER.CREATE.AFTERWORD_TURNS.x%d.afterword.turns.a", "$JS.ACK.AFTERWORD_TURNS.g.1.%d.1.1.0"} {
		for k := range 64 {
			if strings.Contains(subject, "%d") {
				err := nc.Publish(fmt.Sprintf(subject, k), nil)
				if err != nil {
					t.Fatal(err)
				}
			} else if err := nc.Publish(subject, nil); err != nil {
				t.Fatal(err)
			}
		}
		servertest.Eventually(t, patience, "the last error", func() bool { return out.count("times=64") == i+1 })
		if n := out.count("NATS error"); n != 7*(i+1) { // 1, 2, 4 … 64
			t.Errorf("%d lines for 64 errors of %s", n-7*i, subject)
		}
	}
}

// Errors that differ in a random inbox alone are one error, whatever inboxes begin with.
func TestErrorsOfInboxesAreOne(t *testing.T) {
	srv := servertest.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"allowed"}}}}}
	})
	for _, prefix := range []string{"", "_INBOX_web", "answers.web"} {
		out := &lockedBuffer{}
		nc := connect(t, stream.Config{URL: srv.URL(), InboxPrefix: prefix, Credentials: stream.Credentials{User: "u", Password: "p"}, Logger: slog.New(slog.NewTextHandler(out, nil))})
		for range 8 {
			if _, err := nc.SubscribeSync(nc.NewInbox()); err != nil {
				t.Fatal(err)
			}
		}
		servertest.Eventually(t, patience, "the last error", func() bool { return out.count("times=8") == 1 || out.count("NATS error") == 8 })
		if n := out.count("NATS error"); n != 4 { // 1, 2, 4, 8
			t.Errorf("%q: %d lines for 8 errors", prefix, n)
		}
	}
}

package gateway

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/afterword-io/afterword/publisher"
)

// A request that is sent again with its key is the same turn, byte for byte.
func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t, nil)
	const body = `{"user":"hi","assistant":"ho"}`
	var first, again accepted
	w.post("s", body, "Idempotency-Key", "key-1").want(http.StatusAccepted).into(&first)
	w.post("s", body, "Idempotency-Key", `"key-1"`, "Prefer", "wait=20").want(http.StatusCreated).into(&again)
	if first.ID != "key-1" || first.ID != again.ID || first.Timestamp != again.Timestamp {
		t.Errorf("%+v, then %+v", first, again)
	}
	w.consume()
	if w.seen != 1 { // the server dropped the second: its payload is the same
		t.Errorf("%d messages in the stream", w.seen)
	}
	// Another session has keys of its own; another turn does not get this one's.
	w.post("S", body, "Idempotency-Key", "key-1").want(http.StatusAccepted)
	w.post("s", `{"user":"hi","assistant":"HO"}`, "Idempotency-Key", "key-1").problem(http.StatusUnprocessableEntity, "Idempotency-Key")
	// A revision names its turn itself.
	w.post("s", fmt.Sprintf(`{"id":"key-1","timestamp":%q,"rev":2,"user":"hi","assistant":"HO"}`, first.Timestamp), "Idempotency-Key", "key-1").want(http.StatusAccepted)

	w.post("s", `{"id":"x","timestamp":"2026-01-31T12:00:00Z","user":"hi"}`, "Idempotency-Key", "y").problem(http.StatusUnprocessableEntity, "id")
	for _, key := range []string{"", `""`, "a b", "ü", `"`, string(make([]byte, 0)) + "x/y"} {
		w.post("s", body, "Idempotency-Key", key).problem(http.StatusBadRequest, "Idempotency-Key")
	}
	w.post("s", body, "Idempotency-Key", "a", "Idempotency-Key", "a").problem(http.StatusBadRequest, "Idempotency-Key")
}

// Requests at the same time are one turn too.
func TestIdempotencyKeyAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	stamps := make([]string, 20)
	var all sync.WaitGroup
	for i := range stamps {
		all.Go(func() {
			a := w.post("s", `{"user":"hi","assistant":"ho"}`, "Idempotency-Key", "k")
			var got accepted
			a.into(&got)
			stamps[i] = got.Timestamp
		})
	}
	all.Wait()
	for _, s := range stamps {
		if s == "" || s != stamps[0] {
			t.Fatalf("%q", stamps)
		}
	}
}

// Another gateway, or one that was restarted, gives another timestamp; the turn is there
// once all the same, as it was first.
func TestIdempotencyKeyElsewhere(t *testing.T) {
	clock := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	w := newWorld(t, func(_ *Config, p *publisher.Config) { p.Now = func() time.Time { return clock } })
	later := clock.Add(time.Minute)
	other, err := publisher.New(publisher.Config{Conn: w.js.Conn(), Now: func() time.Time { return later }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close(t.Context()) })
	addr, _ := serve(t, New(Config{Publisher: other}))
	const body = `{"user":"hi","assistant":"ho"}`
	var first, second accepted
	w.post("s", body, "Idempotency-Key", "k", "Prefer", "wait=20").want(http.StatusCreated).into(&first)
	do(t, addr, "POST", "/v1/sessions/s/turns", body, "Content-Type", "application/json", "Idempotency-Key", "k", "Prefer", "wait=20").
		want(http.StatusCreated).into(&second)
	if first.Timestamp == second.Timestamp {
		t.Fatalf("the clocks agree: %+v", second)
	}
	w.consume()
	if w.seen != 2 {
		t.Errorf("%d messages", w.seen)
	}
	h := w.history("s", "")
	if len(h.Turns) != 1 || *h.Revision != 1 || h.Turns[0].Timestamp != first.Timestamp {
		t.Errorf("%+v", h)
	}
}

// What is remembered is bounded: what was used longest ago is forgotten.
func TestIdempotencyKeysForgotten(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.MaxKeys = 2 })
	at := func(key string) string {
		var got accepted
		w.post("s", `{"user":"hi"}`, "Idempotency-Key", key).want(http.StatusAccepted).into(&got)
		return got.Timestamp
	}
	a, b := at("a"), at("b")
	if at("a") != a || at("b") != b {
		t.Error("a key was forgotten too early")
	}
	at("c")
	if at("b") != b || at("a") == a {
		t.Error("not the oldest was forgotten")
	}
}

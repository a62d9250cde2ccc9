package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// A turn dated too far ahead is refused, in whatever way it is posted, and what is dated so
// already does not keep its session from taking turns.
func TestTurnsOfTheFuture(t *testing.T) {
	w := newWorld(t, nil)
	turn := func(session, id string, at time.Time) string {
		return fmt.Sprintf(`{"session_id":%q,"id":%q,"timestamp":%q,"user":"hi","assistant":"ho"}`, session, id, at.UTC().Format(time.RFC3339))
	}
	last := time.Date(2199, 12, 31, 23, 59, 59, 0, time.UTC)
	far := time.Now().Add(transcript.MaxAhead + time.Minute)
	for _, at := range []time.Time{last, far} {
		w.post("s", turn("s", "x", at)).problem(http.StatusUnprocessableEntity, "timestamp")
		w.post("s", fmt.Sprintf(`{"timestamp":%q,"user":"hi"}`, at.Format(time.RFC3339))).problem(http.StatusUnprocessableEntity, "timestamp")
		w.post("s", fmt.Sprintf(`{"completed_at":%q,"user":"hi"}`, at.Format(time.RFC3339))).problem(http.StatusUnprocessableEntity, "completed_at")
		w.post("s", turn("s", "key", at), "Idempotency-Key", "key").problem(http.StatusUnprocessableEntity, "timestamp")
	}
	w.post("s", turn("s", "key", time.Now()), "Idempotency-Key", "key").want(http.StatusAccepted) // corrected

	lines := strings.Join([]string{turn("b", "1", last), turn("b", "2", time.Now()), turn("b", "3", far)}, "\n")
	p := w.do("POST", "/v1/turns", lines, "Content-Type", "application/x-ndjson").problem(http.StatusUnprocessableEntity, "")
	if len(p.Results) != 3 || p.Results[0].Status != 422 || p.Results[1].Status != 202 || p.Results[2].Status != 422 {
		t.Errorf("results %+v", p.Results)
	}

	// A document of an older version, as old as can be.
	poison, err := transcript.Decode(fmt.Appendf(nil, `{"session_id":"old","id":"p","timestamp":"2199-12-31T23:59:59.999999Z","completed_at":"2199-12-31T23:59:59.999999Z","user":"a","assistant":"b"}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Append(t.Context(), poison); err != nil {
		t.Fatal(err)
	}
	if h := w.history("old", ""); len(h.Turns) != 1 || h.Turns[0].ID != "p" {
		t.Fatalf("history %+v", h)
	}
	// The day ahead that is allowed moves the clock of the session by an hour only.
	w.post("old", turn("old", "early", time.Now().Add(transcript.MaxAhead-time.Hour))).want(http.StatusAccepted)
	bound := time.Now().Add(time.Hour + 20*time.Minute)
	for i := range 3 {
		var got accepted
		w.post("old", `{"user":"hi","assistant":"ho"}`, "Idempotency-Key", fmt.Sprint("k", i)).want(http.StatusAccepted).into(&got)
		if at, err := time.Parse(time.RFC3339, got.Timestamp); err != nil || at.After(bound) {
			t.Errorf("a new turn is dated %s (%v), want at most an hour ahead", got.Timestamp, err)
		}
	}
	w.consume()
	var doc struct {
		Messages []struct{ ID string }
	}
	if err := json.Unmarshal(w.do("GET", "/v1/sessions/old/transcript", "").want(http.StatusOK).body, &doc); err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Messages); n != 5 || doc.Messages[n-1].ID != "p" {
		t.Errorf("transcript %+v, want the new turns before the old one of 2199", doc)
	}
}

// A machine whose clock is no time for a turn is trouble of the gateway's, and no 500.
func TestClockOutOfRange(t *testing.T) {
	w := newWorld(t, func(_ *Config, p *publisher.Config) {
		p.Now = func() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }
	})
	for _, header := range [][]string{nil, {"Idempotency-Key", "k"}} {
		if p := w.post("s", `{"user":"hi"}`, header...).problem(http.StatusServiceUnavailable, ""); p.Type != typePrefix+"clock" {
			t.Errorf("problem %+v", p)
		}
	}
}

// Nothing of a payload that is refused is in the answer, in the log or in the figures.
func TestRefusalsQuoteNothing(t *testing.T) {
	const spoken = "Qyzzyxwqv"
	w := newWorld(t, nil)
	bodies := []string{
		`{"user":"\ud800` + spoken + `"}`, `{"user":"\u` + spoken + `"}`, `{"user":` + spoken + `}`, `{"user":"a","` + spoken + `":1,"` + spoken + `":2}`,
		`{"user":"a","status":"` + spoken + `"}`, `{"user":"a","rev":"` + spoken + `"}`, `{"user":"a","timestamp":"` + spoken + `"}`, `{"user":"a","session_id":"\n` + spoken + `"}`,
		`"` + spoken + `"`, spoken, `{"user":"a"} ` + spoken, `{"user":"` + spoken, "{\"user\":\"\xff" + spoken + `"}`, `{"user":"a","usage":"` + spoken + `"}`,
	}
	said := ""
	for _, body := range bodies {
		for _, a := range []*answer{w.post("s", body), w.do("POST", "/v1/turns", body, "Content-Type", "application/x-ndjson")} {
			if a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s: status %d", body, a.status)
			}
			said += string(a.body)
		}
	}
	said += w.logs.String() + string(w.do("GET", "/metrics", "").want(http.StatusOK).body)
	for i := range len(spoken) - 2 { // parts of it, too
		if at := strings.Index(said, spoken[i:i+3]); at >= 0 {
			t.Fatalf("%q is in …%.200s", spoken[i:i+3], said[max(0, at-100):])
		}
	}
}

package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// api is a gateway, as a chat service sees it.
type api struct {
	url    string
	client *http.Client
}

func (a *api) get(path string) (status int, body []byte, err error) {
	resp, err := a.client.Get(a.url + path)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// post sends a turn and returns it as it was accepted, and how long that took.
// Without an answer it is not known whether the turn was.
func (a *api) post(ctx context.Context, session, user, assistant string) (turn, time.Duration, error) {
	body := fmt.Appendf(nil, `{"user":%s,"assistant":%s}`, quote(user), quote(assistant))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/v1/sessions/"+url.PathEscape(session)+"/turns", bytes.NewReader(body))
	if err != nil {
		return turn{}, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := a.client.Do(req)
	if err != nil {
		return turn{}, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	if err != nil {
		return turn{}, took, err
	}
	if resp.StatusCode != http.StatusAccepted {
		return turn{}, took, &refusal{resp.StatusCode, string(answer)}
	}
	var accepted struct {
		ID, Timestamp, Level string
		Rev                  int
	}
	if err := json.Unmarshal(answer, &accepted); err != nil {
		return turn{}, took, err
	}
	if accepted.ID == "" || accepted.Timestamp == "" || accepted.Rev != 1 || accepted.Level != "buffered" {
		return turn{}, took, fmt.Errorf("accepted as %s", answer)
	}
	return turn{
		Session: session, ID: accepted.ID, Timestamp: accepted.Timestamp,
		User: user, Assistant: assistant, Status: "complete", Rev: 1,
	}, took, nil
}

// refusal is an answer that is not 202.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("answered %d: %s", r.status, r.body) }

// mustPost is post where nothing stands in the way.
func (a *api) mustPost(t *testing.T, session, user, assistant string) (turn, time.Duration) {
	t.Helper()
	w, took, err := a.post(t.Context(), session, user, assistant)
	if err != nil {
		t.Fatalf("POST a turn of session %s: %v", session, err)
	}
	return w, took
}

// history is an answer of GET history.
type history struct {
	Source   string
	Degraded bool
	Revision int
	Turns    []struct{ ID, User, Assistant string }
}

func (a *api) history(t *testing.T, session string) (history, time.Duration) {
	t.Helper()
	began := time.Now()
	status, body, err := a.get("/v1/sessions/" + url.PathEscape(session) + "/history")
	took := time.Since(began)
	var h history
	if err == nil {
		err = json.Unmarshal(body, &h)
	}
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET history of %s: %d %s, %v", session, status, body, err)
	}
	return h, took
}

// is compares a history with the last ten answered turns.
func (h history) is(snapshots []turn) error {
	want := recent(snapshots)
	if len(h.Turns) != len(want) {
		return fmt.Errorf("%d turns, want %d", len(h.Turns), len(want))
	}
	for i, w := range want {
		if g := h.Turns[i]; g.ID != w.ID || g.User != w.User || g.Assistant != w.Assistant {
			return fmt.Errorf("turn %d is %v, want %v", i, g, w)
		}
	}
	return nil
}

// level asks how far a turn has come; "" is an answer that does not say.
func (a *api) level(w turn) string {
	status, body, err := a.get("/v1/sessions/" + url.PathEscape(w.Session) + "/turns/" + w.ID)
	var v struct{ Level string }
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &v) != nil {
		return ""
	}
	return v.Level
}

package console

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/afterword-io/afterword/transcript"
)

// maxBranches bounds the turns of a session whose branches are shown: each page reads all of them.
const maxBranches = 100_000

// maxText bounds what is shown of one message, in bytes.
const maxText = 64 << 10

type sessionList struct {
	Sessions []sessionEntry `json:"sessions"`
	Next     string         `json:"next"` // the cursor of what follows; "" at the end
}

type sessionEntry struct {
	SessionID string `json:"session_id"`
	UpdatedAt string `json:"updated_at"`
	Turns     int    `json:"turns"`
}

// sessions lists the transcripts of this machine, in the order of their files.
func (c *Console) sessions(w http.ResponseWriter, r *http.Request) error {
	store := c.cfg.Store()
	if store == nil {
		return newProblem(http.StatusNotImplemented, "There are no transcripts on this machine to list. A session can be opened by its whole id: it is read from the stream.")
	}
	limit, err := number(r, "limit", 50, 1, 500)
	if err != nil {
		return err
	}
	prefix := r.URL.Query().Get("prefix")
	if len(prefix) > transcript.MaxSessionID || !utf8.ValidString(prefix) {
		return newProblem(http.StatusBadRequest, "prefix is the beginning of a session id.")
	}
	cursor, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("cursor"))
	if err != nil || len(cursor) > 200 || len(cursor) > 0 && !strings.Contains(string(cursor), "/") {
		return newProblem(http.StatusBadRequest, `cursor is the "next" of an earlier answer.`)
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.cfg.LookupTimeout)
	defer cancel()
	page, err := store.List(ctx, prefix, string(cursor), int(limit))
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	list := sessionList{Sessions: []sessionEntry{}, Next: base64.RawURLEncoding.EncodeToString([]byte(page.Next))}
	for _, s := range page.Sessions {
		list.Sessions = append(list.Sessions, sessionEntry{s.ID, s.UpdatedAt.String(), s.Turns})
	}
	return writeJSON(w, http.StatusOK, list)
}

type transcriptPage struct {
	SessionID string `json:"session_id"`
	Source    string `json:"source"`  // "file" or "stream"
	Partial   bool   `json:"partial"` // turns may be missing: the stream has removed some, and there are no files
	Revision  int64  `json:"revision"`
	Total     int    `json:"total"`
	First     int    `json:"first"` // index of the first turn that is shown
	Turns     []turn `json:"turns"`
}

// turn is one of a transcript. What was said is absent unless it was asked for.
type turn struct {
	ID          string  `json:"id"`
	Session     string  `json:"session_id,omitempty"` // in the live tail
	Timestamp   string  `json:"timestamp"`
	Status      string  `json:"status"`
	Rev         int     `json:"rev"`
	Model       string  `json:"model,omitempty"`
	Supersedes  string  `json:"supersedes,omitempty"`
	Parent      string  `json:"parent,omitempty"`   // of a turn that names it, or that is aside; one that is there
	Aside       bool    `json:"off_path,omitempty"` // answered, and of another branch than the recent history
	Seconds     float64 `json:"seconds,omitempty"`  // until it was complete
	Tools       int     `json:"tools,omitempty"`
	Attachments int     `json:"attachments,omitempty"`
	UserBytes   int     `json:"user_bytes"`
	ReplyBytes  int     `json:"assistant_bytes"`
	User        *string `json:"user,omitempty"`
	Reply       *string `json:"assistant,omitempty"`
	Error       *string `json:"error,omitempty"`
}

// transcript shows the turns of a session before an index, or the last ones.
func (c *Console) transcript(w http.ResponseWriter, r *http.Request) error {
	session, err := sessionOf(r)
	if err != nil {
		return err
	}
	limit, err := number(r, "limit", 50, 1, 200)
	if err != nil {
		return err
	}
	before, err := number(r, "before", -1, 0, 1<<40)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.cfg.LookupTimeout)
	defer cancel()
	view, source, err := c.read(ctx, session)
	if err != nil {
		return err
	}
	defer view.Close()
	end := view.Len()
	if before >= 0 {
		end = min(end, int(before))
	}
	first := max(0, end-int(limit))
	page := transcriptPage{SessionID: session, Source: source, Partial: view.Partial, Revision: view.Revision(), Total: view.Len(), First: first, Turns: []turn{}}
	var branches []transcript.Branch
	if view.Len() <= maxBranches {
		if branches, err = view.Branches(ctx, first, end); err != nil {
			return err
		}
	}
	if err := view.Each(ctx, first, end, func(i int, s *transcript.Snapshot) error {
		t, err := show(s, withText(r))
		if branches != nil {
			b := branches[i-first]
			t.Aside = s.Answered() && !b.OnPath
			if t.Aside || s.HasParent || s.Supersedes != "" {
				t.Parent = b.Parent
			}
		}
		page.Turns = append(page.Turns, t)
		return err
	}); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, page)
}

// read takes a transcript from its file, or else from the stream.
func (c *Console) read(ctx context.Context, session string) (*transcript.View, string, error) {
	store := c.cfg.Store()
	whole := false // files that must have all turns were read
	if store != nil {
		view, err := store.View(ctx, session)
		if !errors.Is(err, transcript.ErrNoSession) {
			return view, "file", err
		}
		whole = !errors.Is(err, transcript.ErrPartial)
	}
	view, err := c.stream.View(ctx, session)
	switch {
	case !whole: // nobody knows what the stream has removed
	case err == nil:
		view.Partial = false
	case errors.Is(err, transcript.ErrPartial):
		err = transcript.ErrNoSession
	}
	return view, "stream", err
}

func show(s *transcript.Snapshot, text bool) (turn, error) {
	t, err := s.Turn()
	if err != nil {
		return turn{}, err
	}
	shown := turn{
		ID: s.ID, Timestamp: s.Timestamp.String(), Status: string(s.Status), Rev: s.Rev,
		Model: clip(t.Model), Supersedes: t.Supersedes, Tools: len(t.ToolCalls), Attachments: len(t.Attachments),
		UserBytes: len(t.User), ReplyBytes: len(t.Assistant),
	}
	if !t.CompletedAt.IsZero() {
		shown.Seconds = max(0, t.CompletedAt.Sub(t.Timestamp).Seconds())
	}
	if text {
		user, reply := clip(t.User), clip(t.Assistant)
		shown.User, shown.Reply = &user, &reply
		if t.Error != "" {
			reason := clip(t.Error)
			shown.Error = &reason
		}
	}
	return shown, nil
}

// clip cuts a text that is very long.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + fmt.Sprintf(" … (%d bytes more)", len(s)-maxText)
}

package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"

	"github.com/afterword-io/afterword/transcript"
)

type sessionList struct {
	Sessions []sessionEntry `json:"sessions"`
	Next     string         `json:"next"`               // the cursor of what follows; "" at the end
	Degraded bool           `json:"degraded,omitempty"` // sessions and turns may be missing
}

type sessionEntry struct {
	SessionID    string `json:"session_id"`
	UpdatedAt    string `json:"updated_at"`
	MessageCount int    `json:"message_count"`
}

// listSessions lists the sessions of the store, in the order of its files.
func (g *Gateway) listSessions(w http.ResponseWriter, r *http.Request, _ place) error {
	if g.cfg.Store == nil {
		return absent("transcripts folder")
	}
	query, err := parseQuery(r, "prefix", "cursor", "limit")
	if err != nil {
		return err
	}
	limit, err := query.integer("limit", defaultSessions, 1, maxLimit)
	if err != nil {
		return err
	}
	prefix, err := query.prefix()
	if err != nil {
		return err
	}
	cursor, err := decodeCursor(query.Get("cursor"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.LookupTimeout)
	defer cancel()
	page, err := g.cfg.Store.List(ctx, prefix, cursor, limit)
	if errors.Is(err, transcript.ErrNoTranscripts) {
		return absent("transcripts folder")
	}
	if err != nil {
		return unavailable("The sessions cannot be listed now.", err)
	}
	list := sessionList{Sessions: make([]sessionEntry, len(page.Sessions)), Next: encodeCursor(page.Next), Degraded: page.Partial}
	for i, s := range page.Sessions {
		list.Sessions[i] = sessionEntry{s.ID, s.UpdatedAt.String(), s.Turns}
	}
	return writeJSON(w, http.StatusOK, list)
}

// storeCursor is what a store's cursor looks like: folder and token.
var storeCursor = regexp.MustCompile(`^([0-9a-f]{2}|\.)/[A-Za-z0-9_=~-]{1,160}$`)

func encodeCursor(cursor string) string { return base64.RawURLEncoding.EncodeToString([]byte(cursor)) }

func decodeCursor(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	cursor, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || !storeCursor.Match(cursor) {
		return "", badRequest("cursor", `cursor is the "next" of an earlier answer, unchanged.`)
	}
	return string(cursor), nil
}

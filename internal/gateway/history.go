package gateway

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/afterword-io/afterword/cache"
)

const (
	maxLimit        = 1000
	defaultSessions = 100
)

// getHistory shows the last answered turns. A session that nobody knows has an
// empty history: a chat service asks before the first turn.
func (g *Gateway) getHistory(w http.ResponseWriter, r *http.Request, at place) error {
	if g.cfg.History == nil {
		return absent("histories")
	}
	query, err := parseQuery(r, "limit")
	if err != nil {
		return err
	}
	limit, err := query.integer("limit", cache.DefaultLimit, 1, maxLimit)
	if err != nil {
		return err
	}
	history, err := g.cfg.History.Load(r.Context(), at.session, limit)
	if err != nil {
		return unavailable("The history cannot be read now.", err)
	}
	trace.SpanFromContext(r.Context()).SetAttributes(
		attribute.String("afterword.history.source", string(history.Source)), attribute.Bool("afterword.history.degraded", history.Degraded))
	// Where it was found makes no other history. What is degraded is nothing to keep.
	if !history.Degraded {
		same := history
		same.Source = ""
		sum := sha256.New()
		writeHistory(sum, &same)
		if unchanged(w, r, `W/"`+hex.EncodeToString(sum.Sum(nil))+`"`) {
			return nil
		}
	}
	w.Header().Set("Content-Type", "application/json")
	writeHistory(w, &history)
	return nil
}

// writeHistory writes turn by turn: a thousand of them may be large.
func writeHistory(w io.Writer, history *cache.Result) {
	out := bufio.NewWriter(w)
	defer out.Flush()
	b := appendString([]byte(`{"session_id":`), history.SessionID)
	b = appendString(append(b, `,"source":`...), string(history.Source))
	b = strconv.AppendBool(append(b, `,"degraded":`...), history.Degraded)
	b = strconv.AppendInt(append(b, `,"revision":`...), history.Revision, 10)
	b = append(b, `,"turns":[`...)
	for i := range history.Turns {
		if i > 0 {
			b = append(b, ',')
		}
		out.Write(b)
		b = history.Turns[i].AppendMessage(b[:0])
	}
	out.Write(append(b, `]}`...))
}

// appendString appends a JSON string. What is not valid UTF-8 in s is replaced.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

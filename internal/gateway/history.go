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

	"cmp"
	"errors"
	"fmt"
	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/transcript"
	"strings"
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
	query, err := parseQuery(r, "limit", "leaf", "cursor")
	if err != nil {
		return err
	}
	limit, err := query.integer("limit", cache.DefaultLimit, 1, maxLimit)
	if err != nil {
		return badRequest("limit", fmt.Sprintf("limit is an integer from 1 to %d. For more turns ask again with cursor, the next of the answer.", maxLimit))
	}
	path, err := query.path(limit)
	if err != nil {
		return err
	}
	ctx, held := transcript.Keep(r.Context())
	defer held.Release()
	var history cache.Result
	if path.Leaf == "" {
		history, err = g.cfg.History.Load(ctx, at.session, limit)
	} else {
		history, err = g.cfg.History.Path(ctx, at.session, path)
	}
	if errors.Is(err, transcript.ErrNoTurn) && path.Before != "" && !errors.Is(err, transcript.ErrPartial) {
		return badRequest("cursor", "cursor is of no history of this session: it is the next of an answer.")
	}
	if errors.Is(err, transcript.ErrPartial) {
		return incomplete("Whether there was such a turn is not known here: the stream has removed messages, and this gateway has no transcripts that must have all of them. Ask one that has.", err)
	}
	if errors.Is(err, transcript.ErrNoTurn) {
		return notFound("This session has no such turn.")
	}
	if errors.Is(err, transcript.ErrMemory) {
		return unavailable(tooManyReaders, err)
	}
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
		writeHistory(sum, &same, path.Leaf)
		if unchanged(w, r, `W/"`+hex.EncodeToString(sum.Sum(nil))+`"`) {
			return nil
		}
	}
	w.Header().Set("Content-Type", "application/json")
	writeHistory(w, &history, path.Leaf)
	return nil
}

// writeHistory writes turn by turn: a thousand of them may be large.
func writeHistory(w io.Writer, history *cache.Result, leaf string) {
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
	b = append(b, ']')
	if n := len(history.Turns); n > 0 && history.More {
		b = appendString(append(b, `,"next":`...), cmp.Or(leaf, history.Turns[n-1].ID)+cursorMark+history.Turns[0].ID)
	}
	out.Write(append(b, '}'))
}

// cursorMark stands between the leaf of a path and the turn before which a page of it ends.
const cursorMark = "~"

// path reads which path is asked for.
func (q query) path(limit int) (transcript.PathQuery, error) {
	path := transcript.PathQuery{Limit: limit}
	if q.Has("leaf") {
		path.Leaf = q.Get("leaf")
		if transcript.CheckTurnID(path.Leaf) != nil {
			return path, badRequest("leaf", "leaf is the id of a turn.")
		}
	}
	if q.Has("cursor") {
		leaf, before, ok := strings.Cut(q.Get("cursor"), cursorMark)
		if !ok || transcript.CheckTurnID(leaf) != nil || transcript.CheckTurnID(before) != nil || path.Leaf != "" && path.Leaf != leaf {
			return path, badRequest("cursor", "cursor is the next of an answer, of the same leaf.")
		}
		path.Leaf, path.Before = leaf, before
	}
	return path, nil
}

// appendString appends a JSON string. What is not valid UTF-8 in s is replaced.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

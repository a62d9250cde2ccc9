package cache

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/transcript"
)

const (
	conversationPrefix = "chat:conversation:"
	recentPrefix       = "afterword:recent:{"
	recentSuffix       = "}"

	fieldVersion = "version"
	fieldTurns   = "turns"
	fieldMAC     = "mac"

	// partialMark begins the turns of a history of which turns may be missing: see [transcript.Recent.Partial].
	partialMark = "partial\n"
)

//go:embed recent.lua
var recentLua string

// script is a constant: its text and its digest.
var script = redis.NewScript(recentLua)

// Entry is the recent history of one session.
type Entry struct {
	SessionID string
	Recent    transcript.Recent
}

// Cacheable reports whether Redis can hold the session. Ids with a brace are
// not cached, because Redis Cluster would put their two keys on different nodes.
func Cacheable(session string) bool { return !strings.ContainsAny(session, "{}") }

// ConversationKey is the key that existing chat services read.
func ConversationKey(session string) string { return conversationPrefix + session }

// RecentKey is the key that afterword reads.
func RecentKey(session string) string {
	return recentPrefix + conversationPrefix + session + recentSuffix
}

// encoded is an entry as the script takes it.
type encoded struct {
	session      string
	version      string
	conversation []byte
	turns        []byte
	mac          string
	known        transcript.Version
}

func (e *encoded) size() int { return len(e.conversation) + len(e.turns) }

func encodeEntry(e Entry, limit int, key []byte) (encoded, error) {
	v := e.Recent.Version
	if v.ErasedThrough < 0 || v.LastTimestamp < 0 || v.Revision < 0 {
		return encoded{}, fmt.Errorf("cache: the version of a transcript is negative")
	}
	last := e.Recent.Turns[max(0, len(e.Recent.Turns)-limit):]
	size := 2
	for i := range last {
		size += last[i].Size() + 1
	}
	conversation := append(make([]byte, 0, size), '[')
	turns := make([]byte, 0, size+len(last)*(len(e.SessionID)+24))
	if e.Recent.Partial {
		turns = append(turns, partialMark...)
	}
	for i := range last {
		if i > 0 {
			conversation = append(conversation, ',')
			turns = append(turns, '\n')
		}
		conversation = last[i].AppendExchange(conversation)
		turns = last[i].AppendPayload(turns) // canonical, so without a raw newline
	}
	version := formatVersion(v)
	return encoded{e.SessionID, version, append(conversation, ']'), turns, sign(key, e.SessionID, version, turns), v}, nil
}

func formatVersion(v transcript.Version) string {
	b := make([]byte, 0, 64)
	b = strconv.AppendInt(b, v.ErasedThrough, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(v.LastTimestamp), 10)
	b = append(b, ' ')
	b = append(b, v.LastID...)
	b = append(b, ' ')
	return string(strconv.AppendInt(b, v.Revision, 10))
}

func parseVersion(s string) (transcript.Version, bool) {
	f := strings.Split(s, " ")
	if len(f) != 4 {
		return transcript.Version{}, false
	}
	var n [3]int64
	for i, text := range [...]string{f[0], f[1], f[3]} {
		v, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return transcript.Version{}, false
		}
		n[i] = int64(v)
	}
	return transcript.Version{ErasedThrough: n[0], LastTimestamp: transcript.Instant(n[1]), LastID: f[2], Revision: n[2]}, true
}

// decodeEntry reads what the script has written, and trusts none of it.
func decodeEntry(session, version, lines, mac string, key []byte) (transcript.Recent, error) {
	data := []byte(lines)
	if !signed(key, session, version, data, mac) {
		return transcript.Recent{}, ErrForged
	}
	v, ok := parseVersion(version)
	if !ok {
		return transcript.Recent{}, fmt.Errorf("%w: its version does not parse", ErrCorrupt)
	}
	rec := transcript.Recent{Version: v}
	data, rec.Partial = bytes.CutPrefix(data, []byte(partialMark))
	if len(data) == 0 {
		return rec, nil
	}
	rec.Turns = make([]transcript.Snapshot, 0, strings.Count(lines, "\n")+1)
	for line := range bytes.SplitSeq(data, []byte{'\n'}) {
		s, err := transcript.Decode(line, math.MaxInt)
		switch {
		case err != nil:
			return transcript.Recent{}, fmt.Errorf("%w: turn %d does not parse: %w", ErrCorrupt, len(rec.Turns)+1, err)
		case s.SessionID != session:
			return transcript.Recent{}, fmt.Errorf("%w: turn %d is of another session", ErrCorrupt, len(rec.Turns)+1)
		case !s.Answered():
			return transcript.Recent{}, fmt.Errorf("%w: turn %d is not answered", ErrCorrupt, len(rec.Turns)+1)
		case plain(&s) && len(rec.Turns) > 0 && rec.Turns[len(rec.Turns)-1].Compare(&s) >= 0:
			return transcript.Recent{}, fmt.Errorf("%w: turn %d is out of order", ErrCorrupt, len(rec.Turns)+1)
		case slices.ContainsFunc(rec.Turns, func(t transcript.Snapshot) bool { return t.ID == s.ID }):
			return transcript.Recent{}, fmt.Errorf("%w: turn %d is there twice", ErrCorrupt, len(rec.Turns)+1)
		}
		rec.Turns = append(rec.Turns, s)
	}
	return rec, nil
}

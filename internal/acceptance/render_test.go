package acceptance

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

// turn is a snapshot of a turn, with its timestamp in the canonical form, whose
// order is that of its text.
type turn struct {
	ID, Session, Timestamp string
	User, Assistant        string
	Status                 string
	Rev                    int
	Others                 map[string]json.RawMessage
}

// sessions are the turns of each session.
type sessions map[string][]turn

func (s sessions) add(turns ...turn) {
	for _, t := range turns {
		s[t.Session] = append(s[t.Session], t)
	}
}

func (s sessions) count() (n int) {
	for _, turns := range s {
		n += len(winners(turns))
	}
	return n
}

// parseTurns reads JSON lines of whole turns.
func parseTurns(t *testing.T, r io.Reader) []turn {
	t.Helper()
	var turns []turn
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		turns = append(turns, parseTurn(t, lines.Bytes()))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return turns
}

func parseTurn(t *testing.T, line []byte) turn {
	t.Helper()
	w := turn{Status: "complete", Rev: 1}
	if err := json.Unmarshal(line, &w); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return w
}

// UnmarshalJSON reads members by their exact names: to encoding/json "Id" is an id.
func (w *turn) UnmarshalJSON(b []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return err
	}
	for name, to := range map[string]any{
		"id": &w.ID, "session_id": &w.Session, "timestamp": &w.Timestamp,
		"user": &w.User, "assistant": &w.Assistant, "status": &w.Status, "rev": &w.Rev,
	} {
		if value, ok := members[name]; ok {
			if err := json.Unmarshal(value, to); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			delete(members, name)
		}
	}
	w.Others = members
	return nil
}

// winners keeps the best snapshot of each turn, in the order of the transcript.
// The last rule of the merge, which encoding is larger, is not here: no test
// writes two different snapshots that need it.
func winners(snapshots []turn) []turn {
	best := make(map[string]turn)
	for _, s := range snapshots {
		have, ok := best[s.ID]
		pending, final := s.Status == "pending", have.Status != "pending"
		switch {
		case !ok,
			s.Rev > have.Rev,
			s.Rev == have.Rev && !pending && !final,
			s.Rev == have.Rev && pending != final && s.Timestamp < have.Timestamp:
			best[s.ID] = s
		}
	}
	return slices.SortedFunc(maps.Values(best), func(a, b turn) int {
		return strings.Compare(a.Timestamp+" "+a.ID, b.Timestamp+" "+b.ID)
	})
}

// render returns the document that snapshots of one session make.
func render(session string, snapshots []turn) []byte {
	turns := winners(snapshots)
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"session_id":%s,"created_at":"%s","messages":[`+"\n", quote(session), turns[0].Timestamp)
	updated, revision := "", 0
	for i, w := range turns {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `{"id":%s,"timestamp":"%s","user":%s,"assistant":%s,"status":%s,"rev":%d`,
			quote(w.ID), w.Timestamp, quote(w.User), quote(w.Assistant), quote(w.Status), w.Rev)
		for _, name := range slices.Sorted(maps.Keys(w.Others)) {
			fmt.Fprintf(&b, `,%s:%s`, quote(name), w.Others[name])
		}
		b.WriteByte('}')
		updated = max(updated, w.Timestamp, w.text("completed_at"))
		revision += w.Rev
	}
	fmt.Fprintf(&b, "\n"+`],"updated_at":"%s","message_count":%d`, updated, len(turns))
	sum := sha256.Sum256(b.Bytes())
	fmt.Fprintf(&b, `,"afterword":{"schema":1,"revision":%d,"sha256":"%x"}}`+"\n", revision, sum)
	return b.Bytes()
}

// text is another member that is a string; "" when there is none.
func (w turn) text(name string) (s string) {
	json.Unmarshal(w.Others[name], &s)
	return s
}

// quote writes a JSON string that escapes no more than it must.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if i := strings.IndexRune("\"\\\b\f\n\r\t", r); i >= 0 {
			b.WriteByte('\\')
			b.WriteByte(`"\bfnrt`[i])
		} else if r < ' ' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// exchange is a turn as existing chat services know it.
type exchange struct {
	User      string `json:"user"`
	Assistant string `json:"assistant"`
}

// recent returns the last ten turns of the path from the newest answered turn to its first turn.
func recent(snapshots []turn) []turn {
	turns := winners(snapshots)
	answered := func(w turn) bool {
		said := w.Assistant != "" || w.Others["tool_calls"] != nil && string(w.Others["tool_calls"]) != "[]"
		return said && (w.Status == "complete" || w.Status == "partial" || w.Status == "cancelled")
	}
	find := func(id string) int { return slices.IndexFunc(turns, func(w turn) bool { return w.ID == id }) }
	newest := func(before int) int {
		for before--; before >= 0 && !answered(turns[before]); before-- {
		}
		return before
	}
	var parent func(i, depth int) int
	parent = func(i, depth int) int {
		if turns[i].Others["parent"] != nil {
			return find(turns[i].text("parent"))
		}
		if turns[i].text("supersedes") == "" {
			return newest(i)
		}
		if i = find(turns[i].text("supersedes")); i < 0 || depth > len(turns) {
			return -1
		}
		return parent(i, depth+1)
	}
	var path []turn
	been := make(map[int]bool)
	for i := newest(len(turns)); i >= 0 && !been[i] && len(path) < 10; i = parent(i, 0) {
		been[i] = true
		if answered(turns[i]) {
			path = append(path, turns[i])
		}
	}
	slices.Reverse(path)
	return path
}

// conversation is what Redis holds for existing chat services.
func conversation(snapshots []turn) string {
	var list []string
	for _, w := range recent(snapshots) {
		list = append(list, fmt.Sprintf(`{"user":%s,"assistant":%s}`, quote(w.User), quote(w.Assistant)))
	}
	return "[" + strings.Join(list, ",") + "]"
}

package acceptance

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// Hostile payloads and session ids, half of them posted and half put into the
// stream: nothing crashes, no file is outside the folder, and each becomes what the
// contract says: accepted and in the document of its session, refused with the
// problem it is, or a dead letter with its reason.
func TestHostileInput(t *testing.T) {
	n := choose(3_000, 1_000_000)
	rnd := random(t)
	server := servertest.NATSProcess(t)
	js := connect(t, server.URL())
	root := t.TempDir()
	dataDir := filepath.Join(root, "data")
	consume := consumeOn(t, server.URL(), dataDir)
	gateway := startService(t, "gateway", "--nats-url", server.URL(), "--redis-url", "none", "--data-dir", dataDir).ready()
	f := &flood{answers: make(map[string]int), want: make(map[string]map[string]bool)}
	var clients sync.WaitGroup
	const posting = 8
	for range posting {
		own := rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64()))
		clients.Go(func() {
			for range n / 2 / posting {
				session, payload := hostile(own)
				f.post(&gateway.api, session, payload)
			}
		})
	}
	async, err := jetstream.New(js.Conn(), jetstream.WithPublishAsyncMaxPending(500))
	if err != nil {
		t.Fatal(err)
	}
	for range n / 2 {
		session, payload := hostile(rnd)
		subject := stream.TurnPrefix + token(session)
		if rnd.IntN(10) == 0 {
			subject = stream.TurnPrefix + "somebody-else"
		}
		if _, err := async.PublishMsgAsync(&nats.Msg{Subject: subject, Data: payload}, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-async.PublishAsyncComplete()
	clients.Wait()
	gateway.stop()
	for i, err := range f.wrong {
		if i < 5 {
			t.Errorf("%s: %v", poison, err)
		}
	}
	wantConsumed(t, choose(2*time.Minute, time.Hour), js, group)

	reasons := make(map[uint64]string) // of dead letters, by the sequence of the original
	readAll(t, js, stream.Dead, func(m jetstream.Msg, seq uint64) {
		of, err := strconv.ParseUint(m.Headers().Get(stream.HeaderStreamSeq), 10, 64)
		if err != nil {
			t.Fatalf("%s: dead letter %d has headers %v", poison, seq, m.Headers())
		}
		reasons[of] = m.Headers().Get(stream.HeaderReason)
	})
	verdicts := make(map[string]int)
	wrong := 0
	readAll(t, js, stream.Turns, func(m jetstream.Msg, seq uint64) {
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		v := judge(strings.TrimPrefix(m.Subject(), stream.TurnPrefix), m.Data(), meta.Timestamp)
		verdicts[v.kind]++
		reason, dead := reasons[seq]
		delete(reasons, seq)
		if v.kind == "accepted" {
			f.owe(v.session, v.id)
		}
		if dead != (v.kind != "accepted") || dead && !v.says(reason) {
			if wrong++; wrong <= 5 {
				t.Errorf("%s: message %d, %s %q: dead letter %v with the reason %q, want %+v", poison, seq, m.Subject(), m.Data(), dead, reason, v)
			}
		}
	})
	if wrong > 5 || len(reasons) > 0 {
		t.Errorf("%s: %d messages became what they should not, %d dead letters are of none", poison, wrong, len(reasons))
	}
	f.wantWritten(t, dataDir)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "data" {
			t.Errorf("%s: %s is outside the folder", poison, e.Name())
		}
	}
	for _, name := range files(t, dataDir) {
		if !strings.HasPrefix(name, "transcripts/") && !strings.HasPrefix(name, "spool/") {
			t.Errorf("%s: %s is neither a transcript nor in the spool", poison, name)
		}
	}
	t.Logf("%d posts → %v", n/2, f.answers)
	t.Logf("messages of the stream by what they have to become: %v; each became it, the dead letters with its reason", verdicts)
	consume.stop()
}

// flood is what became of hostile input.
type flood struct {
	mu      sync.Mutex
	answers map[string]int
	want    map[string]map[string]bool // ids of turns, by session
	wrong   []error
}

// owe notes that a turn has to be in its document.
func (f *flood) owe(session, id string) {
	if f.want[session] == nil {
		f.want[session] = make(map[string]bool)
	}
	f.want[session][id] = true
}

// post posts one payload and judges the answer.
func (f *flood) post(a *api, session string, payload []byte) {
	resp, err := a.client.Post(a.url+"/v1/sessions/"+url.PathEscape(session)+"/turns", "application/json", bytes.NewReader(payload))
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.wrong = append(f.wrong, fmt.Errorf("session %q, %q: %w", session, payload, err))
		return
	}
	var answer struct{ ID, Type, Member, Detail string }
	json.Unmarshal(body, &answer)
	v := judgePost(session, payload)
	want := map[string]int{"accepted": http.StatusAccepted, "session": http.StatusBadRequest, "json": http.StatusBadRequest, "rule": http.StatusUnprocessableEntity}[v.kind]
	kind := answer.Type[strings.LastIndexByte(answer.Type, ':')+1:]
	f.answers[fmt.Sprint(resp.StatusCode, " ", kind)]++
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable && kind == "overflow": // refused, and it says why
	case resp.StatusCode != want,
		v.kind == "accepted" && (answer.ID == "" || v.id != "" && answer.ID != v.id),
		v.kind != "accepted" && kind != v.kind,
		v.kind == "rule" && !(slices.Contains(v.members, cmp.Or(answer.Member, "the turn")) && v.says(answer.Detail)):
		f.wrong = append(f.wrong, fmt.Errorf("session %q, %q: answered %d %s, want %+v", session, payload, resp.StatusCode, body, v))
	case v.kind == "accepted":
		f.owe(session, answer.ID)
	}
}

// says reports whether a reason is that of the verdict.
func (v *verdict) says(reason string) bool {
	switch v.kind {
	case "json":
		return strings.HasPrefix(reason, "not acceptable JSON")
	case "subject":
		return strings.HasPrefix(reason, "subject of another session")
	case "future":
		return strings.HasPrefix(reason, "future: ")
	}
	return slices.ContainsFunc(v.members, func(name string) bool { return strings.HasPrefix(reason, name+" ") })
}

// wantWritten checks that the files hold the turns that were accepted, and no others.
func (f *flood) wantWritten(t *testing.T, dataDir string) {
	t.Helper()
	l := newLedger(dataDir)
	for session, ids := range f.want {
		found, err := l.held(session)
		if err != nil {
			t.Errorf("%s: session %q: %v", neverTorn, session, err)
			continue
		}
		have := make(map[string]bool)
		for _, w := range append(found.document, found.tail...) {
			have[w.ID] = true
		}
		if !maps.Equal(have, ids) {
			maps.DeleteFunc(ids, func(id string, _ bool) bool { found := have[id]; delete(have, id); return found })
			t.Errorf("%s: session %q does not hold %v, and holds %v", noLoss, session, ids, have)
		}
	}
	if len(f.want) == 0 {
		t.Error("nothing was accepted")
	}
}

// readAll reads a stream from its first message to its last.
func readAll(t *testing.T, js jetstream.JetStream, name string, fn func(m jetstream.Msg, seq uint64)) {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	last := s.CachedInfo().State.LastSeq
	if s.CachedInfo().State.Msgs == 0 {
		return
	}
	c, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	iter, err := c.Messages(jetstream.PullMaxMessages(5000))
	if err != nil {
		t.Fatal(err)
	}
	defer iter.Stop()
	for {
		m, err := iter.Next(jetstream.NextMaxWait(time.Minute))
		if err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		fn(m, meta.Sequence.Stream)
		if meta.Sequence.Stream >= last {
			return
		}
	}
}

// hostile makes a session id and a payload that were meant to hurt, or nearly well.
func hostile(rnd *rand.Rand) (session string, payload []byte) {
	ids := []string{"../../etc/passwd", "*", ">", "a.b", "", ".", "..", "\x00", "a\nb", "é\u202e", "{tag}", strings.Repeat("x", 255), strings.Repeat("/", 255),
		strings.Repeat("é", 200), "con", "%2e%2e", "=~", "\xff\xfe", ".afterword", "~", "a/../b", "$SYS", "null"}
	session = ids[rnd.IntN(len(ids))] + fmt.Sprint(rnd.IntN(50))
	texts := []string{`"hi"`, `""`, `null`, `1e999`, `"\ud800"`, `"\u0000"`, "\"\xff\"", `{}`, strings.Repeat("[", 40) + strings.Repeat("]", 40), `"` + strings.Repeat("z", rnd.IntN(3000)) + `"`}
	pick := func() string { return texts[rnd.IntN(len(texts))] }
	text := func() string {
		if rnd.IntN(4) > 0 {
			return `"fine"`
		}
		return pick()
	}
	if others := []string{"", "null", "[]", `"text"`, "1", "{}", "\ufeff{}", "{} {}", strings.Repeat("[", 5000), "\x00", `{"user":1}`, `{"user":"a"}`}; rnd.IntN(20) == 0 {
		return session, []byte(others[rnd.IntN(len(others))])
	}
	b := fmt.Appendf(nil, `{"id":"h%d","timestamp":"2026-11-0%dT00:00:00Z","session_id":%s,"user":%s,"assistant":%s`,
		rnd.Uint32(), rnd.IntN(10), quote(strings.ToValidUTF8(session, "?")), text(), text())
	switch rnd.IntN(10) {
	case 9:
		b = bytes.Replace(b, []byte(`"2026-`), []byte(`"2199-`), 1)
	case 4:
		b = append(b, `,"meta":{"a":1,"\u0061":{}}`...)
	case 5:
		b = append(b, `,"later":{"😀":"\ud83d\ude00","x":[{}]}`...)
	case 6:
		b = append(b, `,"timestamp":"0000-00-00T24:61:61"`...)
	case 0:
		b = append(b, `,"rev":`+pick()...)
	case 1:
		b = append(b, `,"user":"again"`...)
	case 2:
		b = append(b, `,"meta":`+pick()...)
	case 3:
		b = append(b, `,"status":`+pick()...)
	}
	b = append(b, '}')
	switch rnd.IntN(8) {
	case 0:
		b = b[:rnd.IntN(len(b))]
	case 1:
		b[rnd.IntN(len(b))] = byte(rnd.Uint32())
	}
	return session, b
}

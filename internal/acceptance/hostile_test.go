package acceptance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// Hostile payloads and session ids, half of them posted and half put into the
// stream: nothing crashes, no file is outside the folder, and each is answered,
// refused or a dead letter with its reason.
func TestHostileInput(t *testing.T) {
	n := choose(3_000, 1_000_000)
	rnd := random(t)
	server := servertest.NATSProcess(t)
	js := connect(t, server.URL())
	root := t.TempDir()
	dataDir := filepath.Join(root, "data")
	consume := consumeOn(t, server.URL(), dataDir)
	gateway := startService(t, "gateway", "--nats-url", server.URL(), "--redis-url", "none", "--data-dir", dataDir).ready()
	answers := make(map[int]int)
	for range n / 2 {
		session, payload := hostile(rnd)
		resp, err := gateway.client.Post(gateway.url+"/v1/sessions/"+url.PathEscape(session)+"/turns", "application/json", bytes.NewReader(payload))
		if err != nil {
			t.Fatalf("%s: session %q, %q: %v", poison, session, payload, err)
		}
		resp.Body.Close()
		answers[resp.StatusCode]++
		if resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: session %q, %q: answered %d", poison, session, payload, resp.StatusCode)
		}
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
	gateway.stop()
	wantConsumed(t, 20*time.Minute, js, group)
	s, err := js.Stream(t.Context(), stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	dead := make(map[uint64]bool)
	last := s.CachedInfo().State.LastSeq
	for seq := uint64(1); seq <= last; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		of, err := strconv.ParseUint(m.Header.Get(stream.HeaderStreamSeq), 10, 64)
		if err != nil || m.Header.Get(stream.HeaderReason) == "" {
			t.Fatalf("%s: dead letter %d has headers %v", poison, seq, m.Header)
		}
		dead[of] = true
	}
	turns, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	acked, _ := strconv.Atoi(consume.metric("afterword_consumer_acked_total"))
	stored := turns.CachedInfo().State.Msgs
	if acked > 0 && uint64(acked+len(dead)) < stored {
		t.Errorf("%s: of %d messages %d are acknowledged and %d dead letters", poison, stored, acked, len(dead))
	}
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
	t.Logf("%d posts → answers by status %v; %d messages in the stream → %d dead letters with their reason", n/2, answers, stored, len(dead))
	consume.stop()
}

// hostile makes a session id and a payload that were meant to hurt, or nearly well.
func hostile(rnd *rand.Rand) (session string, payload []byte) {
	ids := []string{"../../etc/passwd", "*", ">", "a.b", "", ".", "..", "\x00", "a\nb", "é\u202e", "{tag}", strings.Repeat("x", 255), strings.Repeat("/", 255),
		strings.Repeat("é", 200), "con", "%2e%2e", "=~", "\xff\xfe", ".afterword", "~", "a/../b", "$SYS", "null"}
	session = ids[rnd.IntN(len(ids))] + fmt.Sprint(rnd.IntN(50))
	texts := []string{`"hi"`, `""`, `null`, `1e999`, `"\ud800"`, `"\u0000"`, "\"\xff\"", `{}`, strings.Repeat("[", 40) + strings.Repeat("]", 40), `"` + strings.Repeat("z", rnd.IntN(3000)) + `"`}
	pick := func() string { return texts[rnd.IntN(len(texts))] }
	text := func() string {
		if rnd.IntN(2) == 0 {
			return `"fine"`
		}
		return pick()
	}
	b := fmt.Appendf(nil, `{"id":"h%d","timestamp":"2026-11-0%dT00:00:00Z","session_id":%s,"user":%s,"assistant":%s`,
		rnd.Uint32(), rnd.IntN(10), quote(strings.ToValidUTF8(session, "?")), text(), text())
	switch rnd.IntN(6) {
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

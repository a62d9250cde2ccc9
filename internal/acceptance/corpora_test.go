package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

const consumed = 2 * time.Minute // bound of writing a whole corpus, on a busy machine

// TestCorpora takes real conversations all the way, again, and back.
func TestCorpora(t *testing.T) {
	nats := servertest.NATSProcess(t)
	server := servertest.Redis(t)
	redis := openRedis(t, server.Addr())
	js := connect(t, nats.URL())
	dataDir := filepath.Join(t.TempDir(), "data")
	natsFlag := []string{"--nats-url", nats.URL()}
	where := append(slices.Clone(natsFlag), "--redis-url", server.URL(), "--data-dir", dataDir)
	all := corpora(t)
	want := make(sessions)
	for _, c := range all {
		want.add(c.filled...)
	}

	consume := startService(t, append([]string{"consume"}, where...)...).ready()
	publish := func(t *testing.T, more ...string) {
		t.Helper()
		for _, c := range all {
			_, says := run(t, slices.Concat([]string{"publish", "--file", abs(t, c.path)}, natsFlag, more)...)
			t.Logf("afterword publish --file %s %s → %s", c.name, strings.Join(more, " "), strings.TrimSpace(says))
		}
	}
	publish(t)
	took := wantDocuments(t, consumed, dataDir, want)
	t.Logf("afterword consume → %d turns in %d documents as rendered independently, %v after the last was published", want.count(), len(want), took.Round(time.Millisecond))
	wantNothingElse(t, dataDir, want)

	t.Run("texts", func(t *testing.T) { wantTexts(t, dataDir, all) })
	t.Run("readers", func(t *testing.T) { wantReadable(t, dataDir, want) })
	t.Run("redis", func(t *testing.T) {
		took := wantRedis(t, startSoon, redis, want)
		t.Logf("redis-server → the last ten answered turns of %d sessions, with a TTL on both keys, within %v", len(want), took.Round(time.Millisecond))
	})
	original := allDocuments(t, transcripts(dataDir))
	t.Run("publish again", func(t *testing.T) {
		publish(t) // the server drops what it had within a minute
		// Another base time makes other payloads, so these do reach the consumer;
		// the earlier timestamp of each turn wins.
		publish(t, "--base-time", time.Now().Add(time.Hour).Format(time.RFC3339))
		wantConsumed(t, consumed, js, group)
		wantFolded(t, startSoon, dataDir)
		sameDocuments(t, "after publishing all of it three times", allDocuments(t, transcripts(dataDir)), original)
		wantRedis(t, startSoon, redis, want)
	})
	t.Run("verify", func(t *testing.T) { wantVerified(t, where, want) })
	consume.stop()
	t.Run("replay", func(t *testing.T) {
		if err := os.RemoveAll(transcripts(dataDir)); err != nil {
			t.Fatal(err)
		}
		_, says := run(t, slices.Concat([]string{"replay", "--all", "--data-dir", dataDir}, natsFlag)...)
		t.Logf("rm -r transcripts; afterword replay --all → identical bytes; %s", strings.TrimSpace(says))
		sameDocuments(t, "rm -r transcripts, then replay", allDocuments(t, transcripts(dataDir)), original)
		if *full {
			wantVerified(t, where, want)
			into := filepath.Join(t.TempDir(), "rebuilt")
			run(t, slices.Concat([]string{"replay", "--all", "--into", into, "--data-dir", t.TempDir()}, natsFlag)...)
			sameDocuments(t, "replay into another folder", allDocuments(t, into), original)
		}
	})
	t.Run("batches of one", func(t *testing.T) { oneByOne(t, all, original) })
	t.Run("two consumers, Redis Cluster", func(t *testing.T) {
		cluster := servertest.RedisCluster(t, 3)
		dir := filepath.Join(t.TempDir(), "data")
		args := slices.Concat([]string{"consume", "--group", "racing", "--data-dir", dir,
			"--redis-url", "redis+cluster://" + strings.Join(cluster.Addrs(), ",")}, natsFlag)
		began := time.Now()
		two := []*service{startService(t, args...), startService(t, args...)}
		wantConsumed(t, consumed, js, "racing")
		wantFolded(t, consumed, dir)
		sameDocuments(t, "two consumers racing on one folder", allDocuments(t, transcripts(dir)), original)
		took := time.Since(began)
		within := wantRedis(t, startSoon, openRedis(t, cluster.Addrs()...), want)
		t.Logf("2 × afterword consume --group racing → identical bytes, %v from their start until all is folded; redis+cluster:// of 3 → right for %d sessions, %v later",
			took.Round(time.Millisecond), len(want), within.Round(time.Millisecond))
		for _, s := range two {
			s.stop()
		}
	})
}

// wantTexts compares documents with the files that were published: nothing but
// the texts, in the order of the lines.
func wantTexts(t *testing.T, dataDir string, all []corpus) {
	in := make(map[string]string) // sessions, by the file that has them
	for _, c := range all {
		for _, w := range c.source {
			if other, ok := in[w.Session]; ok && other != c.name {
				in[w.Session] = "" // in two files, and neither says what its order is
			} else {
				in[w.Session] = c.name
			}
		}
	}
	for _, c := range all {
		if slices.ContainsFunc(c.source, func(w turn) bool { return w.Timestamp != "" }) {
			continue // does not say itself what its order is
		}
		texts := make(map[string][]exchange)
		for _, w := range c.source {
			if in[w.Session] == "" {
				continue
			}
			texts[w.Session] = append(texts[w.Session], exchange{w.User, w.Assistant})
		}
		for session, want := range texts {
			d, err := readDocument(documentPath(dataDir, session))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]exchange, len(d.Messages))
			for i, m := range d.Messages {
				got[i] = exchange{m.User, m.Assistant}
			}
			if !slices.Equal(got, want) || d.SessionID != session {
				t.Errorf("%s: session %s: the document says %v, the file %v", c.name, session, got, want)
			}
		}
		t.Logf("%s: %d lines, %d sessions: user and assistant byte for byte, in order", c.name, len(c.source), len(texts))
	}
}

// olderReader prints the last ten messages of each document it is told of, and
// knows only the older format.
const olderReader = `
import json, sys
for path in sys.stdin.read().splitlines():
    with open(path, encoding="utf-8") as f:
        d = json.load(f)
    assert d["message_count"] == len(d["messages"]), path
    assert d["created_at"] <= d["updated_at"], path
    last = [{"user": m["user"], "assistant": m["assistant"]} for m in d["messages"][-10:] if m["timestamp"]]
    print(json.dumps({"session": d["session_id"], "last": last}))
`

// wantReadable has other programs read the documents.
func wantReadable(t *testing.T, dataDir string, want sessions) {
	rnd := random(t)
	names := slices.Sorted(maps.Keys(want))
	var paths []string
	for _, session := range names {
		d, err := readDocument(documentPath(dataDir, session))
		if err != nil {
			t.Fatal(err)
		}
		var older olderDocument
		if err := json.Unmarshal(d.raw, &older); err != nil {
			t.Fatal(err)
		}
		var last []exchange
		for _, m := range older.Messages[max(0, len(older.Messages)-10):] {
			last = append(last, exchange{m.User, m.Assistant})
		}
		if !slices.Equal(last, lastTen(want[session])) {
			t.Errorf("session %s: the older reader gets %v", session, last)
		}
		paths = append(paths, documentPath(dataDir, session))
	}

	out := python(t, strings.Join(paths, "\n"), "-c", olderReader)
	lines := json.NewDecoder(strings.NewReader(out))
	for _, session := range names {
		var got struct {
			Session string
			Last    []exchange
		}
		if err := lines.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Session != session || !slices.Equal(got.Last, lastTen(want[session])) {
			t.Errorf("session %s: the older reader in Python gets %+v", session, got)
		}
	}

	some := sample(rnd, paths, 50)
	found, err := exec.LookPath("python3") // it is there: the reader above is in Python
	if err != nil {
		t.Fatal(err)
	}
	tool, err := startJSONTool(found)
	if err != nil {
		t.Fatal(err)
	}
	defer tool.close()
	for _, path := range some {
		out, err := tool.read(path)
		if err != nil {
			t.Fatalf("python3 -m json.tool %s: %v", path, err)
		}
		var a, b any
		if err := json.Unmarshal([]byte(out), &a); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal([]byte(readFile(t, path)), &b); err != nil {
			t.Error(err)
		}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("python3 -m json.tool %s reads something else", path)
		}
	}
	t.Logf("encoding/json, a Go and a Python reader of the older format → %d documents and the last ten messages of each; python3 -m json.tool → %d, the largest among them", len(paths), len(some))
}

func lastTen(snapshots []turn) []exchange {
	var last []exchange
	for _, w := range winners(snapshots) {
		last = append(last, exchange{w.User, w.Assistant})
	}
	return last[max(0, len(last)-10):]
}

// sample takes the largest files and some others.
func sample(rnd *rand.Rand, paths []string, n int) []string {
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	some := slices.Clone(paths)
	slices.SortFunc(some, func(a, b string) int { return int(size(b) - size(a)) })
	largest := min(5, len(some))
	rnd.Shuffle(len(some)-largest, func(i, j int) {
		some[largest+i], some[largest+j] = some[largest+j], some[largest+i]
	})
	return some[:min(n, len(some))]
}

// wantVerified runs verify and holds its figures against ours.
func wantVerified(t *testing.T, where []string, want sessions) {
	t.Helper()
	out, _ := run(t, append([]string{"verify", "--all", "--json"}, where...)...)
	var res consumer.VerifyResult
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatalf("verify --json prints %s: %v", out, err)
	}
	expected := consumer.VerifyResult{Sessions: len(want), Turns: want.count(), Cached: len(want)}
	if !reflect.DeepEqual(res, expected) {
		t.Errorf("verify says %+v, want %+v", res, expected)
	}
	t.Logf("afterword verify --all --json → exit 0, %s", strings.TrimSpace(out))
}

// oneByOne consumes in batches of one turn. Each batch is made durable by itself,
// so a normal run does it with some of the sessions.
func oneByOne(t *testing.T, all []corpus, original map[string]string) {
	some := make(map[string]bool) // sessions, by their name in paths
	turns := 0
	var lines bytes.Buffer
	for _, c := range all {
		most := choose(400, len(c.filled))
		for _, w := range c.filled {
			if most--; most >= 0 {
				some[token(w.Session)] = true
			}
		}
		for i, line := range dryRun(t, c) {
			if some[token(c.filled[i].Session)] {
				lines.WriteString(line)
				turns++
			}
		}
	}
	path := filepath.Join(t.TempDir(), "some.jsonl")
	if err := os.WriteFile(path, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	run(t, "publish", "--file", path, "--nats-url", nats.URL())

	dir := filepath.Join(t.TempDir(), "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	c, err := consumer.New(consumer.Config{JS: js, Store: store, BatchTurns: 1})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ctx, stop := contextOf(t)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	wantConsumed(t, choose(consumed, 5*consumed), js, consumer.DefaultGroup)
	took := time.Since(began)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	closing, cancel := contextOf(t)
	defer cancel()
	if err := store.Close(closing); err != nil {
		t.Error(err)
	}
	want := make(map[string]string)
	for name, text := range original {
		if some[strings.TrimSuffix(filepath.Base(name), ".json")] {
			want[name] = text
		}
	}
	sameDocuments(t, "batches of one", allDocuments(t, dir), want)
	t.Logf("consumer.Config{BatchTurns: 1} → %d turns of %d sessions one by one in %v (%.0f/s), identical bytes",
		turns, len(some), took.Round(time.Millisecond), float64(turns)/took.Seconds())
}

// dryRun returns the lines that stand for a corpus.
func dryRun(t *testing.T, c corpus) []string {
	t.Helper()
	out, _ := run(t, "publish", "--file", abs(t, c.path), "--dry-run")
	return slices.Collect(strings.Lines(out))
}

package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// DefaultSize is the size of a turn, in bytes of its payload.
const DefaultSize = 1024

// Source says which turns there are. The same source always gives the same turns.
type Source struct {
	// Turns is how many there are; Sessions is over how many sessions they are spread.
	// Files have their own sessions.
	Turns, Sessions int
	// Active is how many sessions take turns with each other: the next so many begin when
	// they have ended. Zero means all of them, which is the hardest.
	Active int
	// Size is that of a payload in bytes, roughly; zero means [DefaultSize].
	Size int
	// Files are conversations as JSON lines, gzip or not, with session_id, user and
	// assistant. They are repeated up to Turns, each time as new sessions. Nil means made-up text.
	Files []string
}

func (s Source) withDefaults() (Source, error) {
	s.Size = cmp.Or(s.Size, DefaultSize)
	s.Active = cmp.Or(s.Active, s.Sessions)
	switch {
	case s.Turns < 1:
		return s, errors.New("bench: at least one turn is needed")
	case len(s.Files) == 0 && (s.Sessions < 1 || s.Sessions > s.Turns || s.Active < 1 || s.Active > s.Sessions):
		return s, fmt.Errorf("bench: %d turns cannot be spread over %d sessions, %d at a time", s.Turns, s.Sessions, s.Active)
	case s.Size < minSize:
		return s, fmt.Errorf("bench: a turn has at least %d bytes", minSize)
	}
	return s, nil
}

const (
	minSize  = 256
	envelope = 210 // bytes of a payload that are not text
	baseTime = 1_780_000_000_000_000
	textSize = 1 << 16
	maxLine  = 8 << 20
)

// conversations are the turns of a source.
type conversations struct {
	Source
	text  string // made up
	lines []spoken
}

// spoken is a line of a file.
type spoken struct {
	Session   string `json:"session_id"`
	User      string `json:"user"`
	Assistant string `json:"assistant"`
}

// open reads the files, or makes text up.
func (s Source) open() (*conversations, error) {
	s, err := s.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &conversations{Source: s}
	if len(s.Files) == 0 {
		c.text = madeUp()
		return c, nil
	}
	for _, name := range s.Files {
		if err := c.read(name); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	if len(c.lines) == 0 {
		return nil, errors.New("the files hold no turns")
	}
	return c, nil
}

func (c *conversations) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	var text io.Reader = in
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if text, err = gzip.NewReader(in); err != nil {
			return err
		}
	}
	scan := bufio.NewScanner(text)
	scan.Buffer(nil, maxLine)
	for n := 1; scan.Scan(); n++ {
		if len(bytes.TrimSpace(scan.Bytes())) == 0 {
			continue
		}
		var e spoken
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		c.lines = append(c.lines, e)
	}
	return scan.Err()
}

// madeUp is text of words, always the same, twice as long as any part of it that is used.
func madeUp() string {
	words := []string{"the", "reply", "goes", "out", "first", "and", "transcript", "comes", "after", "user", "asks", "again", "about", "weather", "in", "Vienna", "tomorrow", "because", "train", "leaves", "early"}
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < textSize {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.String()[:textSize]
}

// slice is n bytes of made-up text, others for every turn.
func (c *conversations) slice(at, n int) string {
	at = at % (textSize / 2)
	if n <= textSize/2 {
		return c.text[at : at+n]
	}
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(c.text)
	}
	return b.String()[:n]
}

// turn is the turn number n, from 0 on.
func (c *conversations) turn(n int) transcript.Turn {
	t := transcript.Turn{ID: "turn-" + strconv.Itoa(n), Timestamp: time.UnixMicro(baseTime + int64(n)).UTC()}
	if len(c.lines) > 0 {
		e, again := c.lines[n%len(c.lines)], n/len(c.lines)
		t.SessionID, t.User, t.Assistant = e.Session+"-"+strconv.Itoa(again), e.User, e.Assistant
		return t
	}
	t.SessionID = "session-" + strconv.Itoa(c.session(n))
	room := c.Size - envelope
	t.User = c.slice(n*61, room/4)
	t.Assistant = c.slice(n*89+7, room-room/4)
	return t
}

// session tells whose turn number n is: Active sessions take turns until they have
// all of theirs, then the next begin.
func (c *conversations) session(n int) int {
	per := (c.Turns + c.Sessions - 1) / c.Sessions
	block, in := n/(c.Active*per), n%(c.Active*per)
	first := block * c.Active
	active := min(c.Active, c.Sessions-first)
	return first + in*7919%active // not in the order of their names
}

// snapshot is turn n in its canonical encoding.
func (c *conversations) snapshot(n int) (transcript.Snapshot, error) {
	t := c.turn(n)
	d, err := t.Draft()
	if err != nil {
		return transcript.Snapshot{}, err
	}
	return d.Snapshot(0)
}

// message is turn n as it is published.
func (c *conversations) message(n int) (*nats.Msg, error) {
	s, err := c.snapshot(n)
	if err != nil {
		return nil, err
	}
	return messageOf(&s), nil
}

func messageOf(s *transcript.Snapshot) *nats.Msg {
	payload := s.Payload()
	return &nats.Msg{
		Subject: stream.TurnSubject(s.SessionID), Data: payload,
		Header: nats.Header{stream.HeaderMsgID: {stream.MsgID(payload)}},
	}
}

// shape is what a source comes to.
type shape struct {
	sessions int
	bytes    int64 // of all payloads
}

// shape counts sessions and bytes, those of a long source from a part of it.
func (c *conversations) shape() (shape, error) {
	const sample = 20_000
	n := min(c.Turns, max(sample, len(c.lines)))
	seen := make(map[string]bool)
	var s shape
	for i := range n {
		snap, err := c.snapshot(i)
		if err != nil {
			return s, err
		}
		seen[snap.SessionID] = true
		s.bytes += int64(snap.Size())
	}
	s.bytes = s.bytes * int64(c.Turns) / int64(n)
	s.sessions = c.Sessions
	if len(c.lines) > 0 {
		s.sessions = int(int64(len(seen)) * int64(c.Turns) / int64(n))
	}
	return s, nil
}

// stored is what a turn takes beside its payload in the stream, in bytes.
const stored = 160

// streamBytes is what the stream of a source takes on disk.
func (s shape) streamBytes(turns int) int64 { return s.bytes + int64(turns)*stored }

// fileBytes is what transcripts take on disk at most: tails and documents, and
// the rest of the last block of each file.
func (s shape) fileBytes() int64 { return 2*s.bytes + int64(s.sessions)*2*4096 }

// describe notes the source in a result.
func (l *lab) describe(c *conversations, s shape) {
	l.set("turns", c.Turns)
	l.set("sessions", s.sessions)
	l.set("bytes a turn", int(s.bytes/int64(c.Turns)))
	if len(c.lines) == 0 && c.Active != c.Sessions {
		l.set("sessions at a time", c.Active)
	}
	if len(c.Files) > 0 {
		l.set("files", c.Files)
	}
}

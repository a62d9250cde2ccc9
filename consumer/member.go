package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/stream"
)

const (
	// maxMembers bounds the answers that [Members] takes, and maxQuiets for how many times the quiet
	// it waits for it goes on taking them: answers may be forged, and come without end.
	maxMembers, maxQuiets = 1000, 8
	// maxAnswer bounds one of them, in bytes.
	maxAnswer = 16 << 10
	// latencySamples is of how many turns of a batch the latency is noted.
	latencySamples = 8
	// latencyBuckets is how many buckets [Member.Latency] has: up to a minute, and what
	// took longer.
	latencyBuckets = 36
	// freshTurn is how old a turn may be to count in [Member.EndToEnd]: what is imported, or
	// sent again after an outage, says nothing of the way that turns take now.
	freshTurn = 10 * time.Minute
)

// LatencyBound is the upper bound of a bucket of [Member.Latency]: two for each
// doubling from 0.5 ms on. The last bucket has none.
func LatencyBound(bucket int) time.Duration {
	bound := 500 * time.Microsecond << (bucket / 2)
	if bucket%2 == 1 {
		bound = bound * 1414 / 1000
	}
	return bound
}

// Member is what a running consumer says of itself when it is asked.
type Member struct {
	Instance string     `json:"instance"` // of this process, random
	Group    string     `json:"group"`
	Host     string     `json:"host"`
	PID      int        `json:"pid"`
	Version  string     `json:"version,omitempty"`
	Folder   string     `json:"folder"` // identity of its transcripts folder
	Started  time.Time  `json:"started"`
	NotReady string     `json:"not_ready,omitempty"` // why it takes no turns
	Exposed  []string   `json:"exposed,omitempty"`   // see [Config.Exposed]
	InFlight int        `json:"in_flight"`           // fetched, not acknowledged yet
	Acked    int64      `json:"acked"`
	LastAck  *time.Time `json:"last_ack,omitempty"`
	// Latency counts turns by the time from stored to durable, of a sample of each
	// batch: see [LatencyBound].
	// Two clocks are in it, that of NATS and that of the consumer.
	Latency []int64 `json:"latency"`
	// EndToEnd counts them by the time from their timestamp to durable: from Publish on,
	// where the publisher gave it. Only first revisions count, of turns that are not older
	// than ten minutes. The clocks of publisher and consumer are in it. Absent in older versions.
	EndToEnd []int64 `json:"end_to_end,omitempty"`
	// Disputed is not from the answer: another answer in the name of this instance differs, so
	// that one of them is forged.
	Disputed bool `json:"disputed,omitempty"`
}

// member is what a consumer remembers for its [Member].
type member struct {
	instance string
	started  time.Time
	lastAck  *atomic.Int64 // Unix nanoseconds; 0 is never
	latency  *latencies
	endToEnd *latencies
}

// latencies count turns by how long they took.
type latencies [latencyBuckets]atomic.Int64

func (l *latencies) add(took time.Duration) {
	at := sort.Search(latencyBuckets-1, func(i int) bool { return took <= LatencyBound(i) })
	l[at].Add(1)
}

func (l *latencies) list() []int64 {
	counts := make([]int64, latencyBuckets)
	for i := range counts {
		counts[i] = l[i].Load()
	}
	return counts
}

func newMember() member {
	return member{uuid.NewString(), time.Now().UTC(), new(atomic.Int64), new(latencies), new(latencies)}
}

// acked notes turns that are durable and acknowledged.
func (m *member) acked(items []item) {
	now := time.Now()
	m.lastAck.Store(now.UnixNano())
	for i := 0; i < len(items); i += max(1, len(items)/latencySamples) {
		it := &items[i]
		if !it.stored.IsZero() {
			m.latency.add(now.Sub(it.stored))
		}
		if took := now.Sub(it.turn.Timestamp.Time()); it.turn.Rev == 1 && took >= 0 && took < freshTurn {
			m.endToEnd.add(took)
		}
	}
}

// introduce answers who asks for members until the returned function is called. A
// consumer that may not answer, for want of a permission, works all the same.
func (c *Consumer) introduce() (stop func()) {
	sub, err := c.cfg.JS.Conn().Subscribe(stream.Members, func(m *nats.Msg) {
		if answer, err := json.Marshal(c.describe()); err == nil {
			_ = m.Respond(answer) // whoever asks asks again
		}
	})
	if err != nil {
		c.cfg.Logger.Warn("this consumer will not be listed among the members of its group", "error", err)
		return func() {}
	}
	return func() { _ = sub.Unsubscribe() } // with the connection at the latest
}

func (c *Consumer) describe() Member {
	stats := c.Stats()
	m := Member{
		Instance: c.member.instance, Started: c.member.started, PID: os.Getpid(),
		Group: c.cfg.Group, Host: c.cfg.Host, Version: c.cfg.Version, Folder: c.cfg.Store.Identity().ID, Exposed: c.cfg.Exposed,
		InFlight: stats.InFlight, Acked: stats.Acked, Latency: c.member.latency.list(), EndToEnd: c.member.endToEnd.list(),
	}
	if err := c.Ready(); err != nil {
		m.NotReady = err.Error()
	}
	if at := c.member.lastAck.Load(); at != 0 {
		t := time.Unix(0, at).UTC()
		m.LastAck = &t
	}
	return m
}

// Members asks who consumes, and returns who has answered when nobody did for as long
// as quiet, by group, host and start. A consumer that hangs, has lost NATS or is of an older
// version does not answer: that a member is missing here does not prove that it is gone.
// It is not whole when so many answers came that those of members may be missing.
func Members(ctx context.Context, nc *nats.Conn, quiet time.Duration) (members []Member, whole bool, err error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, false, fmt.Errorf("ask for members: %w", err)
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(stream.Members, inbox, nil); err != nil {
		return nil, false, fmt.Errorf("ask for members: %w", err)
	}
	r := make(roll)
	until := time.Now().Add(maxQuiets * quiet)
	for answers := 0; answers < maxMembers && time.Now().Before(until); answers++ {
		wait, cancel := context.WithTimeout(ctx, quiet)
		m, err := sub.NextMsgWithContext(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, false, context.Cause(ctx)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders):
			return r.members(), true, nil
		case err != nil:
			return nil, false, fmt.Errorf("ask for members: %w", err)
		}
		r.add(m.Data)
	}
	return r.members(), false, nil
}

// roll has the answers of each instance that differ. A member answers once, so a second answer is
// forged, or the first one is; both are kept, since nobody can tell which.
type roll map[string]map[string]Member

func (r roll) add(answer []byte) {
	var who Member
	if len(answer) > maxAnswer || json.Unmarshal(answer, &who) != nil || !who.plausible() {
		return
	}
	if r[who.Instance] == nil {
		r[who.Instance] = make(map[string]Member)
	}
	r[who.Instance][string(answer)] = who
}

func (r roll) members() []Member {
	members := []Member{}
	for _, answers := range r {
		for _, m := range answers {
			m.Disputed = len(answers) > 1
			members = append(members, m)
		}
	}
	slices.SortFunc(members, func(a, b Member) int {
		if n := strings.Compare(a.Group+"\x00"+a.Host, b.Group+"\x00"+b.Host); n != 0 {
			return n
		}
		return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.Instance, b.Instance))
	})
	return members
}

// plausible reports whether an answer may be shown. Who may reply to the request can claim anything,
// so an answer is a claim: nothing is decided by it.
func (m *Member) plausible() bool {
	if stream.CheckGroup(m.Group) != nil || m.Instance == "" || m.InFlight < 0 || m.Acked < 0 {
		return false
	}
	for _, text := range append(m.Exposed, m.Instance, m.Host, m.Version, m.Folder, m.NotReady) {
		if len(text) > maxReason || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return false
		}
	}
	return isLatency(m.Latency) && (m.EndToEnd == nil || isLatency(m.EndToEnd))
}

// isLatency reports whether counts can be those of latencies, and their sum a number.
func isLatency(counts []int64) bool {
	return len(counts) == latencyBuckets && !slices.ContainsFunc(counts, func(n int64) bool { return n < 0 || n > math.MaxInt64/latencyBuckets/maxMembers })
}

package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

const (
	// How full a stream may be.
	fullWarning, fullCritical = 0.80, 0.95
	// How much of the stream's max age the oldest turn that is not written may have used up.
	ageWarning, ageCritical = 0.25, 0.50
	// maxLetters bounds how many dead letters are looked at for their reasons.
	maxLetters = 100_000
	// presentFor is how long after its last delivery a consumer counts as there although no request
	// of its stands: while it writes a batch it asks for nothing.
	presentFor = 20 * time.Second
	// quiet is after how much silence no more members are waited for.
	quiet = 250 * time.Millisecond
	// A consumer asks again once a second, and for a moment has no request that stands.
	askAgain, asks = 50 * time.Millisecond, 4
)

func (g *Gatherer) nats(ctx context.Context, r *Report, now time.Time) {
	r.Streams, r.Groups, r.DeadLetters.Reasons = []stream.StreamInfo{}, []Group{}, map[consumer.ReasonKind]uint64{}
	r.NATS.URL = g.cfg.NATSURL
	if g.cfg.Connect == nil {
		return
	}
	js, err := g.cfg.Connect(ctx)
	if errors.Is(err, stream.ErrRefused) {
		r.add(CheckNATS, "", Critical, err.Error(), "")
		return
	}
	if err != nil {
		r.add(CheckNATS, "", Critical, err.Error(), "start the NATS servers; publishers keep turns until then")
		return
	}
	conn := js.Conn()
	infos, err := stream.Info(ctx, js)
	switch {
	case errors.Is(err, stream.ErrNoStream):
		r.reached(stream.ConnectedURL(conn), conn.ConnectedServerName(), conn.ConnectedServerVersion())
		r.add(CheckStream, "", Critical, err.Error(), "afterword stream init")
		return
	case err != nil:
		r.add(CheckNATS, "", Critical, fmt.Sprintf("%s: %v", g.cfg.NATSURL, err), "look at the NATS servers; publishers keep turns until then")
		return
	}
	r.reached(stream.ConnectedURL(conn), conn.ConnectedServerName(), conn.ConnectedServerVersion())
	began := time.Now()
	if err := conn.FlushWithContext(ctx); err == nil {
		r.NATS.RTT = time.Since(began).Seconds()
	}
	r.add(CheckSync, "", OK, "not known: no client can see sync_interval of the servers; it has to be \"always\", as deploy/nats has it", "")
	r.Streams = infos
	for i := range infos {
		r.streamChecks(&infos[i])
	}
	g.groups(ctx, js, r, now)
	g.members(ctx, js, r)
	g.letters(ctx, js, r)
}

func (r *Report) reached(url, name, version string) {
	r.NATS.Reachable, r.NATS.URL, r.NATS.Server, r.NATS.Version = true, url, name, version
	r.add(CheckNATS, "", OK, fmt.Sprintf("%s (%s) answers", r.NATS.URL, version), "")
}

func (r *Report) streamChecks(s *stream.StreamInfo) {
	switch {
	case s.Problem != "":
		r.add(CheckStream, s.Name, Critical, s.Problem, "afterword stream info")
	case len(s.Problems) > 0:
		r.add(CheckStream, s.Name, Warning, stream.Texts(s.Problems), "afterword stream info")
	default:
		r.add(CheckStream, s.Name, OK, "its settings lose nothing", "")
	}
	full, of := 0.0, ""
	if s.MaxBytes > 0 {
		full, of = float64(s.Bytes)/float64(s.MaxBytes), "max bytes"
	}
	if s.MaxMsgs > 0 {
		if f := float64(s.Messages) / float64(s.MaxMsgs); f > full {
			full, of = f, "max messages"
		}
	}
	found := fmt.Sprintf("%s, without a limit", plural.Of(s.Messages, "message"))
	if of != "" {
		found = fmt.Sprintf("%s, %.0f %% of its %s", plural.Of(s.Messages, "message"), 100*full, of)
	}
	level := above(full, fullWarning, fullCritical)
	do := ""
	if level != OK {
		found += "; a full stream refuses, and publishers keep"
		do = "afterword stream init --max-bytes SIZE, or a shorter --max-age, while the disk has room"
	}
	r.add(CheckLimits, s.Name, level, found, do)
}

func above(x, warning, critical float64) Level {
	switch {
	case x >= critical:
		return Critical
	case x >= warning:
		return Warning
	}
	return OK
}

// groups looks at who consumes the turns.
func (g *Gatherer) groups(ctx context.Context, js jetstream.JetStream, r *Report, now time.Time) {
	turns := &r.Streams[0]
	s, err := js.Stream(ctx, stream.Turns)
	if err != nil {
		r.add(CheckConsumers, "", Critical, err.Error(), "afterword stream info")
		return
	}
	for _, c := range turns.Consumers {
		if stream.CheckGroup(c.Name) != nil || c.Folder == "" {
			continue // a reader, not a group: a replay, or a program of somebody else
		}
		k := Group{ConsumerInfo: c, Lag: c.Lag(), LagSeconds: c.LagAge.Seconds()}
		k.Consumed = consumed(ctx, s, &k.ConsumerInfo, now)
		r.Groups = append(r.Groups, k)
		g.groupChecks(r, &k, turns)
	}
	if len(r.Groups) == 0 {
		level := Warning
		if turns.Messages > 0 {
			level = Critical
		}
		r.add(CheckConsumers, "", level, fmt.Sprintf("no group consumes; %s %s in the stream", plural.Of(turns.Messages, "turn"), plural.Are(turns.Messages)), "afterword consume, or afterword serve")
	}
}

// members looks at where consumers listen, and at answers that are not theirs. A member that does not
// answer has nothing to say of it.
func (g *Gatherer) members(ctx context.Context, js jetstream.JetStream, r *Report) {
	members, whole, err := consumer.Members(ctx, js.Conn(), quiet)
	if err != nil {
		return
	}
	disputed := 0
	for _, m := range members {
		if !slices.Equal(m.Exposed, g.cfg.Exposed) { // not this process again
			r.exposed(m.Group, m.Exposed)
		}
		if m.Disputed {
			disputed++
		}
	}
	found := ""
	switch {
	case disputed > 0:
		found = fmt.Sprintf("%d answers about consumers contradict each other in the name of the same process: some are forged", disputed)
	case !whole:
		found = "so many answers about consumers came that some may be missing, and some are forged"
	}
	if found != "" {
		r.add(CheckAccess, "", Warning, found, "let consumers alone subscribe to "+stream.Members+", as in deploy/nats/permissions.conf")
	}
}

// consumed reports whether somebody fetches, and asks again where it seems not so.
func consumed(ctx context.Context, s jetstream.Stream, c *stream.ConsumerInfo, now time.Time) bool {
	if c.LastDelivered != nil && now.Sub(*c.LastDelivered) < presentFor && c.AckPending > 0 {
		return true
	}
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for try := 0; c.Waiting == 0 && try < asks; try++ {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if cons, err := s.Consumer(ctx, c.Name); err == nil {
			c.Waiting = cons.CachedInfo().NumWaiting
		}
	}
	return c.Waiting > 0
}

func (g *Gatherer) groupChecks(r *Report, k *Group, turns *stream.StreamInfo) {
	turnsLag := plural.Of(k.Lag, "turn")
	switch {
	case k.Consumed:
		r.add(CheckConsumers, k.Name, OK, "somebody fetches", "")
	case k.Lag > 0:
		r.add(CheckConsumers, k.Name, Critical, fmt.Sprintf("nobody fetches, and %s wait; the last that joined was %s", turnsLag, orUnknown(k.Host)),
			"afterword consume --group "+k.Name+" --data-dir FOLDER; if one runs, its log says why it pauses")
	default:
		r.add(CheckConsumers, k.Name, Warning, "nobody fetches; the last that joined was "+orUnknown(k.Host), "afterword consume --group "+k.Name+" --data-dir FOLDER")
	}

	if k.Unread > 0 {
		r.add(CheckComplete, k.Name, Warning, plural.Of(k.Unread, "message")+" "+plural.Were(k.Unread)+" gone from the stream before the group could read them: what is read from its folder may lack turns",
			"copy the older transcripts into its folder, or accept that they are lost; then remove "+string(transcript.NoteUnread)+" from it, and restart its consumers")
	}

	lag := time.Duration(k.LagSeconds * float64(time.Second))
	level := above(lag.Seconds(), g.cfg.LagWarning.Seconds(), g.cfg.LagCritical.Seconds())
	do := ""
	if level != OK {
		do = "start more consumers of the group on the same folder, or look at its disk"
	}
	found := "all turns are written"
	if k.Lag > 0 {
		found = fmt.Sprintf("%s behind, the oldest is %s old", turnsLag, rough(lag))
	}
	r.add(CheckLag, k.Name, level, found, do)

	if turns.MaxAge > 0 {
		used := lag.Seconds() / turns.MaxAge.Seconds()
		level, do := above(used, ageWarning, ageCritical), ""
		found := fmt.Sprintf("the stream keeps turns for %s", rough(turns.MaxAge))
		if level != OK {
			found = fmt.Sprintf("the stream deletes turns that are not written from %s on: in %s", k.OldestTime.Add(turns.MaxAge).Format(time.RFC3339), rough(turns.MaxAge-lag))
			do = "afterword stream init --max-age AGE gives more time; then start consumers"
		}
		r.add(CheckRetention, k.Name, level, found, do)
	}

	if len(k.Problems) > 0 {
		r.add(CheckConsumers, k.Name, Warning, stream.Texts(k.Problems), "afterword stream info")
	}
	if k.Redelivered > 0 {
		r.add(CheckRedeliver, k.Name, Warning, fmt.Sprintf("%s came more than once and %s not written", plural.Of(k.Redelivered, "turn"), plural.Are(k.Redelivered)),
			"the log of the consumers says which session cannot be written")
	}
}

// letters counts the dead letters.
func (g *Gatherer) letters(ctx context.Context, js jetstream.JetStream, r *Report) {
	dead := &r.Streams[1]
	r.DeadLetters.Total = dead.Messages
	if dead.Messages == 0 {
		r.add(CheckDead, "", OK, "none", "")
		return
	}
	after := uint64(0)
	if dead.LastSeq > maxLetters {
		after = dead.LastSeq - maxLetters
	}
	err := consumer.DeadLetters{JS: js, Request: g.cfg.Timeout}.Each(ctx, consumer.DeadFilter{After: after}, func(l consumer.DeadLetter) error {
		r.DeadLetters.Reasons[l.Kind]++
		return nil
	})
	var kinds []string
	for _, kind := range consumer.ReasonKinds {
		if n := r.DeadLetters.Reasons[kind]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
		}
	}
	found := plural.Of(dead.Messages, "dead letter")
	if len(kinds) > 0 {
		found += ": " + strings.Join(kinds, ", ")
	}
	if err != nil {
		found += fmt.Sprintf("; not all reasons could be read: %v", err)
	}
	r.add(CheckDead, "", Warning, found, "afterword dlq ls")
}

package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// leastAckPending is how many messages a consumer of a group may have under way.
	leastAckPending = 20_000
	// leastAckWait is shorter than that of any consumer: each is at least 5 s more than twice its bound of files.
	leastAckWait = 5 * time.Second
	// defaultAckWait is what consumers begin with.
	defaultAckWait = 15 * time.Second
	// leastWaiting is how many requests for messages may stand: one of each member.
	leastWaiting = 64
)

// groupProblems looks at the durable consumer of a group, whose stream has so many replicas.
func groupProblems(c jetstream.ConsumerConfig, replicas int) []Problem {
	p := problems(skipping(c))
	p.named(c.InactiveThreshold > 0, "inactive_threshold", fmt.Sprintf("inactive_threshold is %s: idle for so long it is removed, and begins anew", c.InactiveThreshold), byInit)
	p.named(c.MaxAckPending > 0 && c.MaxAckPending < leastAckPending, "max_ack_pending", fmt.Sprintf("max_ack_pending is %d, which throttles the group", c.MaxAckPending), byInit)
	p.named(len(c.BackOff) == 0 && c.AckWait > 0 && c.AckWait < leastAckWait, "ack_wait", fmt.Sprintf("ack_wait is %s, so that turns come again before they are written", c.AckWait), byInit)
	p.named(len(c.BackOff) > 0, "backoff", "it has a backoff, which takes the place of the delays of consumers", byInit)
	p.named(c.MaxRequestBatch > 0 || c.MaxRequestExpires > 0 || c.MaxRequestMaxBytes > 0, "max_batch", "requests for messages are limited, so that fetching fails", byInit)
	p.named(c.PriorityPolicy != jetstream.PriorityPolicyNone, "priority_policy", "it has priority groups, so that fetching fails", byInit)
	p.named(c.Replicas > 0 && c.Replicas < replicas, "num_replicas", fmt.Sprintf("num_replicas is %d, and that of its stream is %d, so it is lost, or away, earlier", c.Replicas, replicas), byInit)
	p.named(Paused(c), "pause_until", "it is paused, so no turns come", "run `afterword stream init --resume`")
	return p
}

// skipping are those of its problems under which turns can go past a group. That is not repaired
// by other settings alone: it has to begin anew, which adds nothing twice.
func skipping(c jetstream.ConsumerConfig) []Problem {
	var p problems
	p.named(c.MaxDeliver > 0, "max_deliver", fmt.Sprintf("max_deliver is %d, after which a turn never comes again", c.MaxDeliver), byInit)
	p.named(c.FilterSubject != "" || len(c.FilterSubjects) > 0, "filter_subject", "it has a filter, so only some turns come", byInit)
	p.named(c.HeadersOnly, "headers_only", "headers_only is on, so turns come without what they say", byInit)
	p.named(c.AckPolicy != jetstream.AckExplicitPolicy, "ack_policy", "ack_policy is "+c.AckPolicy.String()+", so turns may be lost", byInit)
	p.named(c.MemoryStorage, "mem_storage", "mem_storage is on, so that a restart of the server begins the group anew", byInit)
	p.named(c.DeliverPolicy != jetstream.DeliverAllPolicy, "deliver_policy", "deliver_policy is "+c.DeliverPolicy.String()+", so that it did not begin with the first turn", byInit)
	p.named(c.ReplayPolicy != jetstream.ReplayInstantPolicy, "replay_policy", "replay_policy is original, so that turns come as slowly as they were stored", byInit)
	p.named(c.MaxWaiting > 0 && c.MaxWaiting < leastWaiting, "max_waiting", fmt.Sprintf("max_waiting is %d, so that fetching fails with more members", c.MaxWaiting), byInit)
	p.named(c.DeliverSubject != "", "deliver_subject", "it pushes, and consumers pull", byInit)
	return p
}

// Paused reports whether a durable consumer delivers nothing for now.
func Paused(c jetstream.ConsumerConfig) bool {
	return c.PauseUntil != nil && c.PauseUntil.After(time.Now())
}

// Skips names the settings for which a group has to begin anew; "" when there is none.
func Skips(c jetstream.ConsumerConfig) string {
	var names []string
	for _, p := range skipping(c) {
		names = append(names, p.Setting)
	}
	return strings.Join(names, ", ")
}

// NeedsRepair reports whether the durable consumer of a group has settings that [Init] changes;
// replicas is that of its stream.
func NeedsRepair(c jetstream.ConsumerConfig, replicas int) bool {
	return slices.ContainsFunc(groupProblems(c, replicas), func(p Problem) bool { return p.Setting != "pause_until" })
}

// repairedGroup is c without what [groupProblems] names, but for a pause.
func repairedGroup(c jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	fixed := jetstream.ConsumerConfig{
		Name: c.Name, Durable: c.Durable, Description: c.Description, Metadata: OwnMetadata(c.Metadata),
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.AckWait,
		MaxDeliver: -1, MaxAckPending: c.MaxAckPending, PauseUntil: c.PauseUntil, SampleFrequency: c.SampleFrequency,
	}
	if c.AckWait < leastAckWait {
		fixed.AckWait = defaultAckWait
	}
	if c.MaxAckPending > 0 {
		fixed.MaxAckPending = max(c.MaxAckPending, leastAckPending)
	}
	if Skips(c) == "" {
		fixed.MaxWaiting = c.MaxWaiting // which no update may change
	}
	return fixed
}

// OwnMetadata is metadata without what the server adds.
func OwnMetadata(meta map[string]string) map[string]string {
	meta = maps.Clone(meta)
	maps.DeleteFunc(meta, func(k, _ string) bool { return strings.HasPrefix(k, "_nats.") })
	return meta
}

// RepairGroup gives the durable consumer of a group the settings in want: by an update, or
// begun anew if turns may have gone past it. Beginning anew adds nothing twice.
func RepairGroup(ctx context.Context, js jetstream.JetStream, have, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout(js))
	defer cancel()
	if Skips(have) == "" {
		want.MaxWaiting = have.MaxWaiting
		c, err := js.UpdateConsumer(ctx, Turns, want)
		if err != nil {
			return nil, Explain(js, "update group "+want.Durable, err)
		}
		return c, nil
	}
	if err := js.DeleteConsumer(ctx, Turns, want.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, Explain(js, "remove group "+want.Durable, err)
	}
	c, err := js.CreateConsumer(ctx, Turns, want)
	if err != nil {
		return nil, Explain(js, "create group "+want.Durable, err)
	}
	return c, nil
}

// initGroups repairs the durable consumers of all groups, and with resume ends their pauses.
func initGroups(ctx context.Context, js jetstream.JetStream, resume bool) error {
	s, err := openStream(ctx, js, Turns)
	if err != nil {
		return err
	}
	var groups []jetstream.ConsumerConfig
	req, cancel := context.WithTimeout(ctx, RequestTimeout(js))
	defer cancel()
	list := s.ListConsumers(req)
	for ci := range list.Info() {
		if ci.Config.Metadata[MetaDirectory] != "" {
			groups = append(groups, ci.Config)
		}
	}
	if err := list.Err(); err != nil {
		return Explain(js, "list consumers of "+Turns, err)
	}
	for _, g := range groups {
		if resume && Paused(g) {
			req, cancel := context.WithTimeout(ctx, RequestTimeout(js))
			_, err := s.ResumeConsumer(req, g.Durable)
			cancel()
			if err != nil {
				return Explain(js, "resume group "+g.Durable, err)
			}
			g.PauseUntil = nil
		}
		if !NeedsRepair(g, s.CachedInfo().Config.Replicas) {
			continue
		}
		if _, err := RepairGroup(ctx, js, g, repairedGroup(g)); err != nil {
			return err
		}
	}
	return nil
}

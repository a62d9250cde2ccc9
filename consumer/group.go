package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrOtherFolder says that the group belongs to another transcripts folder, or to
// the same one on another machine, where it cannot be the same.
var ErrOtherFolder = errors.New("the group has another transcripts folder")

// join creates the durable consumer, or takes part in the one there is. It never
// updates a consumer before it has compared whose it is.
func (c *Consumer) join(ctx context.Context) (jetstream.Consumer, error) {
	for try := 0; ; try++ {
		cons, err := c.tryJoin(ctx)
		if errors.Is(err, jetstream.ErrConsumerExists) && try < 3 { // another member was first
			continue
		}
		if err != nil && !errors.Is(err, ErrOtherFolder) { // which names the group
			err = stream.Explain(c.cfg.JS, "join group "+c.cfg.Group, err)
		}
		return cons, err
	}
}

func (c *Consumer) tryJoin(ctx context.Context) (jetstream.Consumer, error) {
	info, err := turnsInfo(ctx, c.cfg.JS, c.cfg.Request)
	if err != nil {
		return nil, err
	}
	if info.Config.Mirror != nil { // whatever it has, it is not all yet
		return nil, fmt.Errorf("%w: %s is a mirror, which is not followed", stream.ErrMisconfigured, stream.Turns)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Request)
	defer cancel()
	want := c.durable()
	cons, err := c.cfg.JS.Consumer(ctx, stream.Turns, c.cfg.Group)
	var have *jetstream.ConsumerInfo
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return nil, err
	default:
		have = cons.CachedInfo()
		if err := c.compare(have.Config.Metadata, want.Metadata); err != nil {
			return nil, err
		}
	}
	before := have
	if have != nil && stream.Skips(have.Config) != "" {
		before = nil // it begins anew
	}
	if err := c.follow(ctx, info, before); err != nil {
		return nil, err
	}
	lacks, err := c.cfg.Store.Unread(ctx)
	if err != nil {
		return nil, err
	}
	if lacks != nil {
		want.Metadata[stream.MetaUnread] = strconv.FormatUint(lacks.Messages, 10)
	}
	if have == nil {
		c.paused = nil
		return c.cfg.JS.CreateConsumer(ctx, stream.Turns, want)
	}
	if c.paused = nil; stream.Paused(have.Config) {
		want.PauseUntil = have.Config.PauseUntil
		c.paused = fmt.Errorf("the group is paused until %s: run `afterword stream init --resume`", have.Config.PauseUntil.UTC().Format(time.RFC3339))
	}
	if sameConsumer(have.Config, want) {
		return cons, nil
	}
	if before == nil {
		c.cfg.Logger.Warn("the durable consumer had settings under which turns go past it; it begins anew, which adds nothing twice",
			"group", c.cfg.Group, "settings", stream.Skips(have.Config))
	}
	return stream.RepairGroup(ctx, c.cfg.JS, have.Config, want)
}

// turnsInfo describes the stream of turns.
func turnsInfo(ctx context.Context, js jetstream.JetStream, request time.Duration) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	s, err := js.Stream(ctx, stream.Turns)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream.Turns, err)
	}
	return s.CachedInfo(), nil
}

func (c *Consumer) durable() jetstream.ConsumerConfig {
	id := c.cfg.Store.Identity()
	meta := map[string]string{stream.MetaDirectory: id.ID, stream.MetaHost: c.cfg.Host}
	if id.Local {
		meta[stream.MetaMachine] = c.cfg.Machine
	}
	return jetstream.ConsumerConfig{
		Name: c.cfg.Group, Durable: c.cfg.Group,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.cfg.AckWait,
		MaxDeliver:    -1, // a finite one stops delivering without a word
		MaxAckPending: c.cfg.MaxAckPending,
		Metadata:      meta,
	}
}

// compare refuses a group that writes into another folder: each of the two would
// get a part of the turns.
func (c *Consumer) compare(have, want map[string]string) error {
	if c.rebound {
		return nil
	}
	what := ""
	switch {
	case have[stream.MetaDirectory] != want[stream.MetaDirectory]:
		what = fmt.Sprintf("it writes to folder %s (%s), this is folder %s (%s)",
			short(have[stream.MetaDirectory]), have[stream.MetaHost], short(want[stream.MetaDirectory]), c.cfg.Store.Dir())
	case have[stream.MetaMachine] != want[stream.MetaMachine] && have[stream.MetaMachine] != "" && want[stream.MetaMachine] != "":
		what = fmt.Sprintf("folder %s is on a file system of machine %s (%s), this is machine %s",
			short(have[stream.MetaDirectory]), short(have[stream.MetaMachine]), have[stream.MetaHost], short(want[stream.MetaMachine]))
	default:
		return nil
	}
	return fmt.Errorf("%w: group %s: %s; mount the shared folder, pass another --group to keep a full copy here, or use consume --rebind if its disk is lost",
		ErrOtherFolder, c.cfg.Group, what)
}

func short(id string) string {
	if id == "" {
		return "unknown"
	}
	return id[:min(8, len(id))]
}

// sameConsumer reports whether an update would change nothing that matters: have may have been
// made, or changed, by others.
func sameConsumer(have, want jetstream.ConsumerConfig) bool {
	own := stream.OwnMetadata(have.Metadata)
	own[stream.MetaHost] = want.Metadata[stream.MetaHost] // whoever came last; not worth an update
	return !stream.NeedsRepair(have, 0) && maps.Equal(own, want.Metadata) && have.AckWait == want.AckWait && have.MaxDeliver == want.MaxDeliver && have.MaxAckPending == want.MaxAckPending
}

// machineID tells this machine from others: its machine id, which outlives
// restarts and host names, or else its host name.
func machineID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if b, err := os.ReadFile(path); err == nil && len(strings.TrimSpace(string(b))) > 0 {
			return strings.TrimSpace(string(b))
		}
	}
	return "" // not known: folders are told apart by their id alone
}

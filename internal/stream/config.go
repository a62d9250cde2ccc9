package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// DefaultMaxAge is how long [Turns] keeps a turn. A turn that no consumer
	// took within it is lost to transcripts.
	DefaultMaxAge = 30 * 24 * time.Hour
	// MinMaxAge is the shortest age that the server takes.
	MinMaxAge = 100 * time.Millisecond
	// DuplicateWindow is how long the server remembers a [HeaderMsgID].
	DuplicateWindow = time.Minute
	// DefaultRequestTimeout bounds one request to the JetStream API.
	DefaultRequestTimeout = 5 * time.Second

	// noStorage is the server's code for a stream that does not fit, which nats.go has no name for.
	noStorage jetstream.ErrorCode = 10047
)

var (
	// ErrNoStream says that a stream does not exist.
	ErrNoStream = errors.New("stream does not exist")
	// ErrMisconfigured says that a stream exists with a setting under which
	// turns could be lost. A person has to decide.
	ErrMisconfigured = errors.New("stream is misconfigured")
)

// StreamConfig holds the limits that an operator chooses. They apply when a
// stream is created, or by [Init]; an existing stream keeps its own.
type StreamConfig struct {
	// Replicas of both streams: 1, 3 or 5. Zero means 1 for a new stream, and what it has for an existing one.
	Replicas int
	// MaxAge of a turn. Zero means [DefaultMaxAge] for a new stream, and what it has for
	// an existing one; negative means for ever.
	MaxAge time.Duration
	// MaxBytes of [Turns]. Zero means unlimited for a new stream, and what it has for
	// an existing one; negative means unlimited. A full stream refuses; nothing is dropped.
	MaxBytes int64
	// Continued says that a stream of turns was there before: one that is made is marked with [MetaContinued].
	Continued bool
}

// Ensure creates the streams that do not exist, and checks those that do. It
// changes no existing stream.
//
// Errors: [ErrMisconfigured], naming each setting that breaks a promise and
// what to do about it; [ErrUnreachable] when JetStream does not answer within
// ctx or [RequestTimeout] a request; otherwise what the server said.
func Ensure(ctx context.Context, js jetstream.JetStream, cfg StreamConfig) error {
	for _, want := range cfg.streams() {
		have, err := lookUp(ctx, js, want.Name)
		if errors.Is(err, ErrNoStream) {
			have, err = cfg.make(ctx, js, want)
		}
		if err == nil {
			err = examine(ctx, js, have, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Check is [Ensure] without making anything: [ErrNoStream] when one does not exist.
func Check(ctx context.Context, js jetstream.JetStream) error {
	for _, want := range (StreamConfig{}).streams() {
		have, err := lookUp(ctx, js, want.Name)
		if err == nil {
			err = examine(ctx, js, have, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Repair says what [Init] does beyond settings that an update can change.
type Repair struct {
	// Recreate makes a stream anew, with its messages, where an update cannot repair it.
	Recreate bool
	// Resume ends the pauses of groups.
	Resume bool
}

// Init creates the streams that do not exist and repairs those that do, and the groups, where
// that loses nothing: subjects, policies, limits, direct and atomic access. Age, bytes and
// replicas set in cfg are applied to an existing stream too. It fails as [Ensure]
// does for what an update cannot repair, and then leaves that stream as it was.
func Init(ctx context.Context, js jetstream.JetStream, cfg StreamConfig, how Repair) error {
	for _, want := range cfg.streams() { // before anything is changed
		if how.Recreate {
			break
		}
		if err := NotUnderWay(ctx, js, want.Name); err != nil {
			return err
		}
	}
	for _, want := range cfg.streams() {
		if how.Recreate {
			if err := cfg.recreate(ctx, js, want); err != nil {
				return err
			}
		}
		have, err := lookUp(ctx, js, want.Name)
		if errors.Is(err, ErrNoStream) {
			have, err = cfg.make(ctx, js, want)
		}
		if err != nil {
			return err
		}
		fixed := cfg.repaired(have, want)
		if err := check(fixed, want); err != nil {
			return err
		}
		if err := update(ctx, js, fixed); err != nil {
			return err
		}
	}
	return initGroups(ctx, js, how.Resume)
}

// streams is what both streams should be.
func (c StreamConfig) streams() []jetstream.StreamConfig {
	base := jetstream.StreamConfig{
		Retention:  jetstream.LimitsPolicy,
		Discard:    jetstream.DiscardNew, // a full stream refuses; the publisher keeps
		Storage:    jetstream.FileStorage,
		Replicas:   max(c.Replicas, 1),
		Duplicates: DuplicateWindow,
		MaxMsgs:    -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		AllowDirect: true,
	}

	turns := base
	turns.Name, turns.Subjects = Turns, []string{TurnSubjects}
	turns.Description = "afterword: turns of chat sessions"
	turns.AllowAtomicPublish = true
	switch {
	case c.MaxAge == 0:
		turns.MaxAge = DefaultMaxAge
	case c.MaxAge > 0:
		turns.MaxAge = c.MaxAge
		turns.Duplicates = min(turns.Duplicates, c.MaxAge) // the server refuses a longer window
	}
	if c.MaxBytes > 0 {
		turns.MaxBytes = c.MaxBytes
	}

	dead := base
	dead.Name, dead.Subjects = Dead, []string{DeadSubjects}
	dead.Description = "afterword: messages that could not be processed"
	return []jetstream.StreamConfig{turns, dead}
}

// repaired is have with every setting that an update may change for the better.
func (c StreamConfig) repaired(have, want jetstream.StreamConfig) jetstream.StreamConfig {
	for _, s := range want.Subjects {
		if !covered(have.Subjects, s) {
			// The server refuses subjects that overlap.
			rest := slices.DeleteFunc(slices.Clone(have.Subjects), func(h string) bool { return covered(want.Subjects, h) })
			have.Subjects = append(rest, s)
		}
	}
	if have.Retention == jetstream.InterestPolicy { // the server lets nobody leave a work queue
		have.Retention = want.Retention
	}
	have.Discard = want.Discard
	have.DiscardNewPerSubject = false
	have.MaxMsgsPerSubject = want.MaxMsgsPerSubject
	have.MaxMsgSize = want.MaxMsgSize
	have.MaxMsgs, have.MaxConsumers = want.MaxMsgs, want.MaxConsumers
	have.ConsumerLimits = want.ConsumerLimits
	have.AllowRollup = have.AllowRollup && have.AllowMsgCounter // a counter needs it
	have.NoAck = false
	have.Mirror, have.Sources = nil, nil
	if have.RePublish != nil && ownSubject(have.RePublish.Destination) {
		have.RePublish = nil
	}
	have.SubjectTransform = nil
	have.SubjectDeleteMarkerTTL = 0
	have.AllowDirect = true
	have.AllowAtomicPublish = have.AllowAtomicPublish || want.AllowAtomicPublish
	if c.Replicas != 0 {
		have.Replicas = want.Replicas
	}
	if want.Name == Dead || c.MaxAge != 0 {
		have.MaxAge = want.MaxAge
	}
	if want.Name == Dead || c.MaxBytes != 0 {
		have.MaxBytes = want.MaxBytes
	}
	have.Duplicates = max(have.Duplicates, DuplicateWindow)
	if have.MaxAge > 0 {
		have.Duplicates = min(have.Duplicates, have.MaxAge) // the server refuses a longer window
	}
	return have
}

// check refuses a stream of which a problem is [Problem.Refused].
func check(have, want jetstream.StreamConfig) error {
	return refuse(want.Name, problemsOf(have, want))
}

// examine is check of a stream that exists, and may be being made anew.
func examine(ctx context.Context, js jetstream.JetStream, have, want jetstream.StreamConfig) error {
	list, err := underWay(ctx, js, want.Name, true)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return refuse(want.Name, list)
	}
	return check(have, want)
}

// covered reports whether one of the subjects matches everything that want does.
func covered(subjects []string, want string) bool {
	w := strings.Split(want, ".")
	return slices.ContainsFunc(subjects, func(s string) bool {
		h := strings.Split(s, ".")
		for i, t := range h {
			if t == ">" {
				return len(w) > i
			}
			if i >= len(w) || t != "*" && t != w[i] {
				return false
			}
		}
		return len(h) == len(w)
	})
}

func lookUp(ctx context.Context, js jetstream.JetStream, name string) (jetstream.StreamConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout(js))
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err != nil {
		return jetstream.StreamConfig{}, Explain(js, "look up stream "+name, err)
	}
	return s.CachedInfo().Config, led(s.CachedInfo())
}

// led is an error for a stream of a cluster without a leader: servers that are left describe it, and
// it takes and gives nothing.
func led(info *jetstream.StreamInfo) error {
	if c := info.Cluster; c == nil || c.Name == "" || c.Leader != "" {
		return nil
	}
	return fmt.Errorf("look up stream %s: %w: it has no leader: most of the servers that hold it are away", info.Config.Name, ErrUnreachable)
}

// make creates one of the streams. They are made together, so that one of dead letters without one of turns
// shows that the latter was deleted.
func (c StreamConfig) make(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	if list, err := underWay(ctx, js, want.Name, false); err != nil || len(list) > 0 {
		return jetstream.StreamConfig{}, cmp.Or(err, refuse(want.Name, list))
	}
	if want.Name == Turns {
		switch _, err := lookUp(ctx, js, Dead); {
		case err == nil || c.Continued:
			want.Metadata = map[string]string{MetaContinued: "true"}
		case !errors.Is(err, ErrNoStream):
			return jetstream.StreamConfig{}, err
		}
	}
	return create(ctx, js, want)
}

func create(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	req, cancel := context.WithTimeout(ctx, RequestTimeout(js))
	defer cancel()
	s, err := js.CreateStream(req, want)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return lookUp(ctx, js, want.Name) // another process was first, with other limits
	}
	if err != nil {
		return jetstream.StreamConfig{}, Explain(js, "create stream "+want.Name, err)
	}
	return s.CachedInfo().Config, nil
}

// Lacks is how many messages a stream does not have that were put into it, or into the one whose place it took: of
// that one nobody knows how many, which counts as one.
func Lacks(info *jetstream.StreamInfo) uint64 {
	n := info.State.LastSeq - info.State.Msgs
	if info.Config.Metadata[MetaContinued] != "" {
		n++
	}
	return n
}

// Whole reports whether a stream has all that was ever put into it, and took no other one's place.
func Whole(info *jetstream.StreamInfo) bool { return Lacks(info) == 0 }

// MarkContinued marks the stream of turns with [MetaContinued].
func MarkContinued(ctx context.Context, js jetstream.JetStream) error {
	cfg, err := lookUp(ctx, js, Turns)
	if err != nil || cfg.Metadata[MetaContinued] != "" {
		return err
	}
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if cfg.Metadata == nil {
		cfg.Metadata = make(map[string]string)
	}
	cfg.Metadata[MetaContinued] = "true"
	return update(ctx, js, cfg)
}

func update(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout(js))
	defer cancel()
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return Explain(js, "update stream "+cfg.Name, err)
	}
	return nil
}

// ReadError says that a stream could not be read.
func ReadError(name string, err error) error {
	return fmt.Errorf("read stream %s: %w", name, downOr(err))
}

// downOr is err, or [nats.ErrDisconnected] for what the client library says while it is disconnected: that a
// buffer is full, which has no room here.
func downOr(err error) error {
	if errors.Is(err, nats.ErrReconnectBufExceeded) {
		return nats.ErrDisconnected
	}
	return err
}

// reachedBy says which JetStream a flag chose.
func reachedBy(js jetstream.JetStream) string {
	switch o := js.Options(); {
	case o.Domain != "":
		return fmt.Sprintf(" of the domain %q (--nats-js-domain)", o.Domain)
	case o.APIPrefix != "" && o.APIPrefix != jetstream.DefaultAPIPrefix:
		return fmt.Sprintf(" behind the prefix %q (--nats-js-prefix)", o.APIPrefix)
	}
	return ""
}

// Explain wraps err with the operation and, where a caller would act on it,
// with one of this package's sentinels.
func Explain(js jetstream.JetStream, op string, err error) error {
	var api *jetstream.APIError
	err = downOr(err)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%s: %w", op, ErrNoStream)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		// A cluster that is still choosing its leader looks the same as a server without JetStream.
		return fmt.Errorf("%s: %w: JetStream%s does not answer; wait for its leader, or enable it with `jetstream {}` in nats.conf: %w", op, ErrUnreachable, reachedBy(js), err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", op, err)
	case errors.As(err, &api) && api.ErrorCode == noStorage:
		return fmt.Errorf("%s: %w: give it a smaller max bytes, or raise max_file_store of the server", op, err)
	case errors.As(err, &api) && api.Code == http.StatusServiceUnavailable:
		return fmt.Errorf("%s: %w: %w", op, ErrUnreachable, err) // a cluster without its leader, or a stream without its own
	}
	if err = explainDenied(js, op, err); Denied(err) {
		return fmt.Errorf("%s: %w", op, err)
	}
	for _, e := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrConnectionClosed, nats.ErrDisconnected,
		nats.ErrStaleConnection, nats.ErrConnectionReconnecting, nats.ErrNoServers, nats.ErrConnectionDraining,
	} {
		if errors.Is(err, e) {
			return fmt.Errorf("%s: %w: %w", op, ErrUnreachable, err)
		}
	}
	return fmt.Errorf("%s: %w", op, err)
}

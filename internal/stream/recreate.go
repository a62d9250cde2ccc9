package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// copySuffix and the name of a stream name the one that holds its messages while it is made anew.
	copySuffix = "_COPY"
	// copyStall is how long the server may copy nothing before that counts as failed.
	copyStall = 30 * time.Second
	// copyPoll is how often the progress is looked at.
	copyPoll = 50 * time.Millisecond
)

// recreate makes a stream anew if no update can repair it: its messages, with their sequences
// and times, go into a mirror and back. Publishers have no stream meanwhile, and keep what they
// have; groups begin anew. Run again after an interruption it goes on.
func (c StreamConfig) recreate(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	from := want.Name + copySuffix
	have, err := lookUp(ctx, js, want.Name)
	gone := errors.Is(err, ErrNoStream)
	if err != nil && !gone {
		return err
	}
	_, err = lookUp(ctx, js, from)
	copied := err == nil
	if err != nil && !errors.Is(err, ErrNoStream) {
		return err
	}
	switch {
	case gone && !copied:
		return nil // nothing to keep
	case gone:
		have = want
	case have.Mirror != nil && have.Mirror.Name == from: // it was on the way back
	case !c.onlyAnew(have, want):
		if copied {
			return fmt.Errorf("%w: %s holds messages of a %s that was made anew meanwhile: copy them there, or delete it with `nats stream rm %s`", ErrMisconfigured, from, want.Name, from)
		}
		return nil
	default:
		last, err := c.moveAway(ctx, js, have, from)
		if err != nil {
			return err
		}
		if last > 0 { // it was empty: only its number is kept
			whole := c.repaired(renewed(have), want)
			whole.FirstSeq = last + 1
			_, err := create(ctx, js, whole)
			return err
		}
		gone = true
	}
	whole := c.repaired(renewed(have), want)
	if gone {
		if err := update(ctx, js, bare(whole, from)); err != nil { // it mirrors nothing any more
			return err
		}
		back := bare(whole, want.Name)
		back.Mirror = &jetstream.StreamSource{Name: from}
		if _, err := create(ctx, js, back); err != nil {
			return err
		}
	}
	if err := follow(ctx, js, from, want.Name); err != nil {
		return err
	}
	if err := update(ctx, js, whole); err != nil { // which ends the mirror
		return err
	}
	return remove(ctx, js, from)
}

// notUnderWay is an error while the messages of a stream are in the one beside it: it is being made anew, and one
// that is created now would be in its way. Who may not ask does not know.
func notUnderWay(ctx context.Context, js jetstream.JetStream, name string) error {
	switch _, err := lookUp(ctx, js, name+copySuffix); {
	case err == nil:
		return fmt.Errorf("%w: %s is being made anew, and %s has its messages: wait, or %s, which goes on", ErrMisconfigured, name, name+copySuffix, byRecreate)
	case errors.Is(err, ErrNoStream), Denied(err):
		return nil
	default:
		return err
	}
}

// onlyAnew reports whether a stream has a problem that no update repairs.
func (c StreamConfig) onlyAnew(have, want jetstream.StreamConfig) bool {
	return slices.ContainsFunc(problemsOf(c.repaired(have, want), want), func(p Problem) bool { return p.Remedy == byRecreate })
}

// renewed is have without what only a new stream can be without.
func renewed(have jetstream.StreamConfig) jetstream.StreamConfig {
	have.Storage, have.Retention, have.PersistMode = jetstream.FileStorage, jetstream.LimitsPolicy, jetstream.DefaultPersistMode
	have.Sealed, have.DenyDelete, have.DenyPurge = false, false, false
	have.AllowMsgTTL, have.AllowMsgCounter, have.AllowMsgSchedules, have.AllowRollup = false, false, false, false
	have.MirrorDirect = false // it mirrors nothing
	have.FirstSeq, have.Metadata = 0, OwnMetadata(have.Metadata)
	return have
}

// bare is a stream that holds messages and takes none.
func bare(like jetstream.StreamConfig, name string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: "afterword: messages of a stream that is made anew",
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: max(like.Replicas, 1), Placement: like.Placement,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
	}
}

// moveAway moves the messages of a stream into a mirror of it, and removes it. Of one that
// has had messages and has none any more it returns the last number.
func (c StreamConfig) moveAway(ctx context.Context, js jetstream.JetStream, have jetstream.StreamConfig, to string) (last uint64, err error) {
	if !have.Sealed && have.Mirror == nil { // from here on it takes nothing
		have.Subjects = []string{"afterword.moved." + have.Name}
		have.SubjectTransform = nil
		if err := update(ctx, js, have); err != nil {
			return 0, err
		}
	}
	s, err := openStream(ctx, js, have.Name)
	if err != nil {
		return 0, err
	}
	if state := s.CachedInfo().State; state.Msgs == 0 && state.LastSeq > 0 {
		return state.LastSeq, remove(ctx, js, have.Name)
	}
	away := bare(have, to)
	away.Mirror = &jetstream.StreamSource{Name: have.Name}
	if _, err := create(ctx, js, away); err != nil {
		return 0, err
	}
	if err := follow(ctx, js, have.Name, to); err != nil {
		return 0, err
	}
	return 0, remove(ctx, js, have.Name)
}

// follow waits until a mirror has all messages of a stream that takes none any more.
func follow(ctx context.Context, js jetstream.JetStream, from, mirror string) error {
	var seen uint64
	moved := time.Now()
	for {
		a, err := openStream(ctx, js, from)
		if err != nil {
			return err
		}
		b, err := openStream(ctx, js, mirror)
		if err != nil {
			return err
		}
		source, copied := a.CachedInfo().State, b.CachedInfo().State
		if source.Msgs == 0 || copied.LastSeq >= source.LastSeq {
			return nil
		}
		if copied.LastSeq > seen {
			seen, moved = copied.LastSeq, time.Now()
		}
		if time.Since(moved) > copyStall {
			return fmt.Errorf("copy stream %s to %s: nothing was copied for %s, at message %d of %d: run it again, and it goes on", from, mirror, copyStall, seen, source.LastSeq)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("copy stream %s to %s: %w: run it again, and it goes on", from, mirror, ctx.Err())
		case <-time.After(copyPoll):
		}
	}
}

func remove(ctx context.Context, js jetstream.JetStream, name string) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout(js))
	defer cancel()
	if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return Explain(js, "remove stream "+name, err)
	}
	return nil
}

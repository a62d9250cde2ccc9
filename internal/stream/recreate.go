package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// copySuffix and the name of a stream name the one that holds its messages while it is made anew.
	copySuffix = "_COPY"
	// copyDescription tells it from a stream that has the name by chance.
	copyDescription = "afterword: messages of a stream that is made anew"
	// movedSubject and the name of a stream is what it has while its messages are moved: nobody publishes there.
	movedSubject = "afterword.moved."
	// metaMoved is what the copy knows of the stream.
	metaMoved = "afterword.moved"
	// metaMade is when the first of the streams was made whose messages one has.
	metaMade = "afterword.made"
	// deniedFor is how long who may not ask for the copy does not ask again.
	deniedFor = time.Minute
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
	beside, err := lookUp(ctx, js, from)
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
		if copied && beside.Description == copyDescription {
			if m := movedOf(beside); !m.Made.IsZero() && m.Made.Equal(madeIn(have.Metadata)) { // all but the end of it was done
				return remove(ctx, js, from)
			}
			return fmt.Errorf("%w: %s holds messages of a %s that was made anew meanwhile: copy them there, or delete it with `nats stream rm %s`", ErrMisconfigured, from, want.Name, from)
		}
		return nil
	default:
		m, last, err := c.moveAway(ctx, js, have, from)
		if err != nil {
			return err
		}
		if last > 0 { // it was empty: only its number is kept
			whole := m.marked(c.repaired(renewed(have), want))
			whole.FirstSeq = last + 1
			_, err := create(ctx, js, whole)
			return err
		}
		gone = true
	}
	if beside, err = lookUp(ctx, js, from); err != nil {
		return err
	}
	m := movedOf(beside)
	if !m.Made.IsZero() {
		have = m.Config
	}
	whole := c.repaired(renewed(have), want)
	if gone {
		beside.Mirror = nil // that is gone
		if err := update(ctx, js, beside); err != nil {
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
	if err := update(ctx, js, m.marked(whole)); err != nil { // which ends the mirror
		return err
	}
	return remove(ctx, js, from)
}

// moved is what the copy of a stream knows of it.
type moved struct {
	Made   time.Time              `json:"made"`
	Config jetstream.StreamConfig `json:"config"`
}

// movedOf reads it; zero when the copy does not know.
func movedOf(beside jetstream.StreamConfig) (m moved) {
	if json.Unmarshal([]byte(beside.Metadata[metaMoved]), &m) != nil {
		return moved{}
	}
	return m
}

// marked is a stream with all messages of the one that was moved, whose place it takes.
func (m moved) marked(whole jetstream.StreamConfig) jetstream.StreamConfig {
	if m.Made.IsZero() {
		return whole
	}
	if whole.Metadata = maps.Clone(whole.Metadata); whole.Metadata == nil {
		whole.Metadata = make(map[string]string)
	}
	whole.Metadata[metaMade] = m.Made.UTC().Format(time.RFC3339Nano)
	return whole
}

// Made is when a stream was made: of one that was made anew with all messages of another one, when that was.
func Made(info *jetstream.StreamInfo) time.Time {
	if made := madeIn(info.Config.Metadata); !made.IsZero() {
		return made
	}
	return info.Created
}

func madeIn(meta map[string]string) time.Time {
	made, _ := time.Parse(time.RFC3339Nano, meta[metaMade]) // else zero
	return made
}

// NotUnderWay is [ErrMisconfigured] while a stream is being made anew: the messages of it are in the one beside it, and
// what it has itself is not all.
func NotUnderWay(ctx context.Context, js jetstream.JetStream, name string) error {
	_, err := lookUp(ctx, js, name)
	if err != nil && !errors.Is(err, ErrNoStream) {
		return err
	}
	list, more := underWay(ctx, js, name, err == nil)
	if more != nil {
		return more
	}
	return refuse(name, list)
}

// underWay is the problem of a stream that is being made anew. One that exists has nothing to do with a stream beside it that was not made for
// that; one that does not would be in its way. Who may not ask does not know.
func underWay(ctx context.Context, js jetstream.JetStream, name string, exists bool) ([]Problem, error) {
	if CheckDenied(js.Conn(), deniedFor, name+copySuffix) != nil { // no answer would come until the request is over
		return nil, nil
	}
	beside, err := lookUp(ctx, js, name+copySuffix)
	switch {
	case errors.Is(err, ErrNoStream), Denied(err):
		return nil, nil
	case err != nil:
		return nil, err
	case exists && beside.Description != copyDescription:
		return nil, nil
	}
	return []Problem{{"recreate", "it is being made anew, and " + name + copySuffix + " has its messages", byRecreate + ", which goes on", true}}, nil
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
	have.MirrorDirect = false                                                                                                         // it mirrors nothing
	have.Subjects = slices.DeleteFunc(slices.Clone(have.Subjects), func(s string) bool { return strings.HasPrefix(s, movedSubject) }) // of an attempt
	have.FirstSeq, have.Metadata = 0, OwnMetadata(have.Metadata)
	return have
}

// bare is a stream that holds messages and takes none.
func bare(like jetstream.StreamConfig, name string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: copyDescription,
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: max(like.Replicas, 1), Placement: like.Placement,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
	}
}

// moveAway moves the messages of a stream into a mirror of it, and removes it. Of one that
// has had messages and has none any more it returns the last number.
func (c StreamConfig) moveAway(ctx context.Context, js jetstream.JetStream, have jetstream.StreamConfig, to string) (m moved, last uint64, err error) {
	m.Config = have
	if !have.Sealed && have.Mirror == nil { // from here on it takes nothing
		have.Subjects = []string{movedSubject + have.Name}
		have.SubjectTransform = nil
		if err := update(ctx, js, have); err != nil {
			return m, 0, err
		}
	}
	s, err := openStream(ctx, js, have.Name)
	if err != nil {
		return m, 0, err
	}
	m.Made = Made(s.CachedInfo())
	if state := s.CachedInfo().State; state.Msgs == 0 && state.LastSeq > 0 {
		return m, state.LastSeq, remove(ctx, js, have.Name)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return m, 0, err
	}
	away := bare(have, to)
	away.Mirror, away.Metadata = &jetstream.StreamSource{Name: have.Name}, map[string]string{metaMoved: string(text)}
	got, err := create(ctx, js, away)
	if err != nil {
		return m, 0, err
	}
	if got.Mirror == nil || got.Mirror.Name != have.Name {
		return m, 0, fmt.Errorf("%w: %s is in the way of making %s anew, and is no copy of it: rename or remove it", ErrMisconfigured, to, have.Name)
	}
	if err := follow(ctx, js, have.Name, to); err != nil {
		return m, 0, err
	}
	return m, 0, remove(ctx, js, have.Name)
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

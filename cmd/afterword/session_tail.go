package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// defaultTail is how many turns `session tail` begins with.
const defaultTail = 10

// tailOptions are the flags of `session tail`.
type tailOptions struct {
	nats   natsOptions
	store  storeOptions
	logs   logOptions
	turns  int
	follow bool
	json   bool
}

func (c *cli) sessionTail() *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use:   "tail ID",
		Short: "Print the last turns of a session, and those that come",
		Long: `Print the last turns of a session: of its transcript, if this machine has it, and of the
stream. With --follow go on with every turn that the stream stores, and with every later
revision of one, until Ctrl-C. A server that goes away meanwhile is waited for.`,
		Example: `  afterword session tail abc --turns 3
  afterword session tail -f abc
  afterword session tail -f abc --json | jq .user`,
		Args: oneArg("the session id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.turns < 0 {
				return usage(cmd, errors.New("--turns is negative"))
			}
			if err := transcript.CheckSessionID(args[0]); err != nil {
				return usage(cmd, err)
			}
			return c.withStream(cmd.Context(), o.nats, o.logs, "tail", func(ctx context.Context, js jetstream.JetStream) error {
				return c.tail(ctx, js, o, args[0])
			})
		},
	}
	f := flags{cmd.Flags()}
	f.IntVarP(&o.turns, "turns", "n", defaultTail, "begin with the last so many turns")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with the turns that come")
	f.BoolVar(&o.json, "json", false, "print JSON: one turn a line")
	o.store.add(f)
	o.nats.add(f, ownNATS)
	o.logs.add(f, "warn")
	return cmd
}

// tail prints what is there, then what comes. The place in the stream is taken before
// anything is read, so that no turn falls between the two.
func (c *cli) tail(ctx context.Context, js jetstream.JetStream, o tailOptions, session string) error {
	s, err := js.Stream(ctx, stream.Turns)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", stream.Turns, err)
	}
	next := s.CachedInfo().State.LastSeq + 1
	doc, partial, err := c.wholeSession(ctx, js, o.store, session)
	if err != nil {
		return err
	}
	turns, err := doc.Turns()
	if err != nil {
		return err
	}
	missing := fmt.Sprintf("turns may be missing: stream %s has removed messages, and there are no transcripts in %s that must have all of them: see --data-dir", stream.Turns, o.store.transcripts())
	switch {
	case len(turns) == 0 && !o.follow && partial:
		return errors.New(missing)
	case partial:
		fmt.Fprintln(c.stderr, missing)
	case len(turns) == 0 && !o.follow:
		return failed(fmt.Errorf("%w %q in the stream or in %s: `afterword session ls` lists those that are there", transcript.ErrNoSession, session, o.store.transcripts()))
	}
	p := &turnPrinter{out: bufio.NewWriter(c.stdout), json: o.json}
	for _, t := range turns[max(len(turns)-o.turns, 0):] {
		if err := p.print(&t); err != nil {
			return err
		}
	}
	if err := p.out.Flush(); err != nil || !o.follow {
		return err
	}
	fmt.Fprintln(c.stderr, "following; Ctrl-C ends it")
	seen := make(map[string]transcript.Snapshot, len(turns))
	for _, t := range turns {
		seen[t.ID] = t
	}
	return c.follow(ctx, js, session, next, func(t transcript.Snapshot) error {
		if old, ok := seen[t.ID]; ok && !t.Beats(&old) {
			return nil
		}
		seen[t.ID] = t
		return errors.Join(p.print(&t), p.out.Flush())
	})
}

// wholeSession is what the file and the stream have of a session; empty when neither has it.
// partial says that turns may be missing.
func (c *cli) wholeSession(ctx context.Context, js jetstream.JetStream, store storeOptions, session string) (doc *transcript.Document, partial bool, err error) {
	doc, err = consumer.NewStreamReader(js, 0).Read(ctx, session)
	partial = errors.Is(err, transcript.ErrPartial)
	if partial || errors.Is(err, transcript.ErrNoSession) {
		err = nil
	}
	if doc == nil {
		doc = transcript.NewDocument(session)
	}
	if err != nil || !isTranscripts(store.transcripts()) {
		return doc, partial, err
	}
	err = withTranscripts(ctx, store, func(ctx context.Context, s *transcript.Store) error {
		lacks, err := s.Unread(ctx)
		if err != nil {
			return err
		}
		partial = partial && lacks != nil
		written, err := s.Read(ctx, session)
		if errors.Is(err, transcript.ErrNoSession) {
			return nil
		}
		if err != nil {
			return err
		}
		turns, err := written.Turns()
		if err == nil {
			_, err = doc.Merge(turns...)
		}
		return err
	})
	return doc, partial, err
}

const (
	// tailAhead is how many turns `session tail` asks for at one time.
	tailAhead = 256
	// tailAgain is how long it waits before it asks a server again that is away.
	tailAgain = time.Second
)

// follow calls fn with every turn of a session from a sequence of the stream on. While the server is away it goes
// on asking.
func (c *cli) follow(ctx context.Context, js jetstream.JetStream, session string, next uint64, fn func(transcript.Snapshot) error) error {
	cfg := stream.ReaderConfig{Subject: stream.TurnSubject(session), After: next - 1, Messages: tailAhead, Request: stream.RequestTimeout(js)}
	for first := true; ; first = false {
		r, err := stream.OpenReader(ctx, js, stream.Turns, cfg)
		if first && err != nil {
			return err
		}
		for err == nil {
			var m jetstream.Msg
			var meta *jetstream.MsgMetadata
			if m, meta, err = r.Next(ctx); err != nil {
				break
			}
			cfg.After = meta.Sequence.Stream
			t, malformed := consumer.TurnOf(m, meta)
			if malformed != nil {
				fmt.Fprintf(c.stderr, "a message is no turn, and becomes a dead letter: %s\n", oneLine(malformed))
				continue
			}
			if err := fn(t); err != nil {
				r.Close()
				return err
			}
		}
		if r != nil {
			r.Close()
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("follow stream %s: %w", stream.Turns, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(tailAgain):
		}
	}
}

// turnPrinter prints turns for reading, or as JSON lines.
type turnPrinter struct {
	out  *bufio.Writer
	json bool
	text []byte
}

func (p *turnPrinter) print(t *transcript.Snapshot) (err error) {
	if p.json {
		p.text = append(t.AppendPayload(p.text[:0]), '\n')
	} else if p.text, err = appendTurn(p.text[:0], t, ""); err != nil {
		return err
	} else {
		p.text = append(p.text, '\n')
	}
	_, err = p.out.Write(p.text)
	return err
}

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/internal/terminal"
	"github.com/afterword-io/afterword/transcript"
)

const (
	// completeBound is how long a shell may have to wait for proposals; whoever presses
	// Tab gets none when nothing answers.
	completeBound = time.Second
	// completeMost is how many are proposed.
	completeMost = 50
)

// choicesKey annotates a flag with the values it takes.
const choicesKey = "choices"

// proposer finds what may stand for a word that begins so.
type proposer func(ctx context.Context, c *cli, cmd *cobra.Command, begins string) []string

// completions gives the commands of a tree what a shell proposes: sessions, groups and dead
// letters that are there, the values of a choice, folders, and no files where none is meant.
func (c *cli) completions(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		c.completions(sub)
	}
	if cmd.HasSubCommands() {
		return
	}
	switch {
	case strings.Contains(cmd.Use, " ID"):
		cmd.ValidArgsFunction = c.propose(sessions, 1)
	case strings.Contains(cmd.Use, " NUMBER"):
		cmd.ValidArgsFunction = c.propose(letterNumbers, 1)
	case !strings.Contains(cmd.Use, " PATH"):
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name, _ := pflag.UnquoteUsage(f)
		fn := cobra.CompletionFunc(cobra.NoFileCompletions)
		switch choices := f.Annotations[choicesKey]; {
		case choices != nil:
			fn = cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)
		case f.Name == "session":
			fn = c.propose(sessions, 0)
		case f.Name == "group":
			fn = c.propose(groups, 0)
		case f.Name == "seq":
			fn = c.propose(letterNumbers, 0)
		case name == "FOLDER":
			fn = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
		case name == "FILE":
			return // as shells do by default
		}
		if err := cmd.RegisterFlagCompletionFunc(f.Name, fn); err != nil {
			panic(err) // the flag is there, and nobody else registers any
		}
	})
}

// propose asks a proposer within the bound, and says nothing of what goes wrong. With
// most over 0 there are no proposals after so many arguments.
func (c *cli) propose(p proposer, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begins string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most || c.settle(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeBound)
		defer cancel()
		found := make(chan []string, 1)
		go func() { // a disk that hangs cannot be cancelled; the process is about to end
			found <- p(ctx, c, cmd, begins)
		}()
		select {
		case list := <-found:
			return list[:min(len(list), completeMost)], cobra.ShellCompDirectiveNoFileComp
		case <-ctx.Done():
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// optionsOf reads options out of the flags of a command, which has defined them.
func optionsOf(cmd *cobra.Command, add func(flags)) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	add(flags{fs})
	fs.VisitAll(func(f *pflag.Flag) {
		if given := cmd.Flags().Lookup(f.Name); given != nil && given.Changed {
			fs.Set(f.Name, given.Value.String())
		}
	})
}

func sessions(ctx context.Context, _ *cli, cmd *cobra.Command, begins string) (ids []string) {
	var store storeOptions
	optionsOf(cmd, store.add)
	if !isTranscripts(store.transcripts()) {
		return nil
	}
	withTranscripts(ctx, store, func(ctx context.Context, s *transcript.Store) error {
		return s.EachSession(ctx, begins, func(_, session string, err error) error {
			if err == nil && terminal.Harmless(session) { // shells print proposals as they are
				ids = append(ids, session)
			}
			if len(ids) == completeMost {
				return io.EOF // enough
			}
			return nil
		})
	})
	return ids
}

// withQuickNATS calls fn with a connection, if there is one soon.
func withQuickNATS(ctx context.Context, cmd *cobra.Command, fn func(jetstream.JetStream)) {
	var nats natsOptions
	optionsOf(cmd, func(f flags) { nats.add(f, ownNATS) })
	nc, js, err := connectOnce(ctx, nats, "completion", slog.New(slog.DiscardHandler))
	if err != nil {
		return
	}
	defer nc.Close()
	fn(js)
}

func groups(ctx context.Context, _ *cli, cmd *cobra.Command, begins string) (names []string) {
	withQuickNATS(ctx, cmd, func(js jetstream.JetStream) {
		infos, err := stream.Info(ctx, js)
		if err != nil {
			return
		}
		for _, k := range infos[0].Consumers {
			if k.Folder != "" && strings.HasPrefix(k.Name, begins) {
				names = append(names, fmt.Sprintf("%s\t%s behind", k.Name, plural.Of(k.Lag(), "turn")))
			}
		}
	})
	return names
}

// letterNumbers proposes the last dead letters, with their reasons.
func letterNumbers(ctx context.Context, _ *cli, cmd *cobra.Command, begins string) (list []string) {
	withQuickNATS(ctx, cmd, func(js jetstream.JetStream) {
		d := consumer.DeadLetters{JS: js}
		last, err := d.Last(ctx)
		if err != nil {
			return
		}
		d.Each(ctx, consumer.DeadFilter{After: last - min(last, 20*completeMost), Until: last}, func(l consumer.DeadLetter) error {
			if n := strconv.FormatUint(l.Seq, 10); strings.HasPrefix(n, begins) {
				list = append(list, fmt.Sprintf("%s\t%s", n, l.Kind))
			}
			return nil
		})
	})
	slices.Reverse(list) // the newest first
	return list
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

const (
	// maxElement bounds what is held of a file at a time, in bytes: a transcript, a conversation, a line.
	maxElement = 512 << 20
	// defaultImportNote is how often `import --resume` waits for what is on its way and notes how far it is.
	defaultImportNote = 2 * time.Second
)

// importOptions are the flags of `import`.
type importOptions struct {
	feedOptions

	baseTime string
	resume   string
	every    time.Duration
	strict   bool
	dryRun   bool
	json     bool
}

func (c *cli) importCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import PATH",
		Short: "Import transcripts, JSON lines and exports of other programs",
		Long: `Publish what a file or a folder holds, *.json as well as *.jsonl and *.ndjson with one value a
line, plain or .gz:

  turns         as ` + "`afterword publish`" + ` takes them
  transcripts   of afterword, or of the system that kept one JSON object a session
  messages      chat completions: role and content, alone, as an array or as {"messages":[…]},
                a request with its response
  chatgpt       an export of ChatGPT, with all branches of its conversations
  claude        an export of Claude
  langchain     messages of LangChain's histories and of its serializer
  sharegpt      {"conversations":[{"from":…,"value":…},…]}
  responses     items of OpenAI's Responses and Conversations

Folders are looked into; other files are counted and left alone. Everything else is refused. A
session is called as the export calls the conversation, or as the file. What has no place in a
turn is in its meta: system messages are in meta.system. docs/import.md says the rest.

A member that is unknown is kept. One that resembles a known one, as assistnt or toolCalls does, is
named on standard error; --strict refuses its turn, or its conversation.

Importing twice adds nothing twice. Turns of older documents get the ids that they get where a
document is adopted in place.

What cannot be accepted is told with its file and its place; all else is published, and the exit
code is 1. --resume notes in a file how far it came, so that after Ctrl-C or a crash the same
command goes on.`,
		Example: `  afterword import /srv/chat/conversations --dry-run
  afterword import /srv/chat/conversations --resume import.note
  afterword import chatgpt-export/conversations.json --dry-run | head
  afterword import turns.jsonl.gz --json`,
		Args: oneArg("the path"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.dryRun && o.resume != "" {
				return usage(cmd, errors.New("--dry-run and --resume do not go together"))
			}
			im, err := c.newImporter(o, args[0])
			if err != nil {
				return err
			}
			if o.dryRun {
				return im.dryRun(cmd.Context())
			}
			return im.publish(cmd.Context())
		},
	}
	f := flags{cmd.Flags()}
	f.StringVar(&o.baseTime, "base-time", "", "`TIME` (RFC 3339) from which turns without one are dated; the default is each file's modification time")
	f.StringVar(&o.resume, "resume", "", "note in this `FILE` how far the import is, and go on from what it says")
	f.wait(&o.every, defaultImportNote, "note-every", "how often --resume notes how far it is")
	f.BoolVar(&o.strict, "strict", false, "refuse turns with members that resemble known ones")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the turns that would be stored instead; needs no server, but asks one that is there for its limit")
	f.BoolVar(&o.json, "json", false, "print JSON: an object for each turn or file that is refused, then the result; no turns")
	o.feedOptions.add(f)
	return cmd
}

// importCounts say how far an import came; they are noted, too.
type importCounts struct {
	Files      uint64 `json:"files"`              // documents and files of lines
	Turns      uint64 `json:"turns"`              // in them, the refused ones included
	Refused    uint64 `json:"refused"`            // turns that cannot be accepted, and conversations
	LeftOut    uint64 `json:"left_out,omitempty"` // messages of conversations of which one was refused
	Empty      uint64 `json:"empty,omitempty"`    // conversations, and turns of them, that say nothing
	Unreadable uint64 `json:"unreadable"`         // files that cannot be read, or not to the end
	Ignored    uint64 `json:"ignored"`            // files of another kind
}

// importSummary is the result of an import.
type importSummary struct {
	importCounts
	Stored     uint64  `json:"stored"`     // by this run
	Duplicates uint64  `json:"duplicates"` // of those, already there by their message id
	Seconds    float64 `json:"seconds"`
	DryRun     bool    `json:"dry_run,omitempty"`
}

// refusal is what `import --json` prints of a turn or a file that cannot be accepted.
type refusal struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"` // or the number of the turn in it; absent for a file as a whole
	Reason string `json:"reason"`
}

// importer imports one path.
type importer struct {
	c    *cli
	o    importOptions
	base *transcript.Instant // nil means each file's modification time
	from importSource
	note *importNote // nil without --resume

	spelt  misspelt
	counts importCounts
	check  func(d *transcript.Draft) error // whether it would be taken
	take   func(ctx context.Context, d *transcript.Draft, at place) error
	bytes  int64  // of files that are done
	inside *input // the file of lines that is being read
	broken error  // what kept a refusal from being printed
}

func (c *cli) newImporter(o importOptions, path string) (*importer, error) {
	im := &importer{c: c, o: o, spelt: misspelt{strict: o.strict}}
	if o.baseTime != "" {
		base, err := transcript.ParseInstant(o.baseTime)
		if err != nil {
			return nil, fmt.Errorf("--base-time %q: %w: write it as 2026-01-31T00:00:00Z", o.baseTime, err)
		}
		im.base = &base
	}
	var err error
	if im.from, err = openSource(path); err != nil {
		return nil, err
	}
	if o.resume != "" {
		if im.note, err = openImportNote(o.resume, im.from.path, o.baseTime); err != nil {
			return nil, err
		}
		im.counts = im.note.Counts
	}
	return im, nil
}

// dryRun prints the turns that would be published.
func (im *importer) dryRun(ctx context.Context) error {
	out := bufio.NewWriter(im.c.stdout)
	var line []byte
	limit := im.c.askLimit(ctx, im.o.nats)
	im.check = func(d *transcript.Draft) error {
		_, err := limit.check(d)
		return err
	}
	im.take = func(_ context.Context, d *transcript.Draft, _ place) error {
		snap, err := limit.check(d)
		if err != nil || im.o.json {
			return err
		}
		line = append(snap.AppendPayload(line[:0]), '\n')
		_, err = out.Write(line)
		return err
	}
	began := time.Now()
	m := im.c.meter("turns checked")
	defer m.stop()
	total := im.total(ctx, m != nil)
	err := im.all(ctx, func() { m.set(im.counts.Turns, im.estimate(total)) })
	err = errors.Join(err, out.Flush())
	m.stop()
	if err != nil {
		return err
	}
	limit.print(im.c.stderr)
	return im.done(importSummary{importCounts: im.counts, Seconds: time.Since(began).Seconds(), DryRun: true})
}

func (im *importer) publish(ctx context.Context) error {
	estimate := func(watched bool) func() uint64 {
		total := im.total(ctx, watched)
		return func() uint64 { return im.estimate(total) }
	}
	fed, err := im.c.feed(ctx, im.o.feedOptions, "import", estimate, func(f *feed) error {
		noted := time.Now()
		im.check = func(d *transcript.Draft) error {
			limit := turnLimit{bytes: f.pub.MaxPayload()}
			_, err := limit.check(d)
			return err
		}
		im.take = func(ctx context.Context, d *transcript.Draft, at place) error {
			if im.note != nil && time.Since(noted) >= im.o.every {
				if err := f.drain(ctx); err != nil {
					return err
				}
				if err := im.note.save(at, im.before()); err != nil {
					return err
				}
				noted = time.Now()
			}
			return f.publish(ctx, d, at)
		}
		return im.all(ctx, f.onStep)
	})
	switch {
	case fed == nil:
		return err
	case err != nil:
		return fmt.Errorf("%w: %s %s stored; import the same again for the rest, which adds nothing twice", err, plural.Of(fed.stored, "turn"), plural.Were(fed.stored))
	}
	if err := im.note.remove(); err != nil {
		return err
	}
	return im.done(importSummary{importCounts: im.counts, Stored: fed.stored, Duplicates: fed.duplicates, Seconds: fed.took.Seconds()})
}

// total is how many bytes there are, when somebody looks.
func (im *importer) total(ctx context.Context, watched bool) int64 {
	if !watched {
		return 0
	}
	return im.from.size(ctx)
}

// estimate guesses how many turns there are from those so far; 0 means unknown.
func (im *importer) estimate(total int64) uint64 {
	done := im.bytes
	if im.inside != nil {
		done += im.inside.read.Load()
	}
	if done == 0 || total == 0 {
		return 0
	}
	return uint64(float64(im.counts.Turns) * max(1, float64(total)/float64(done)))
}

// before are the counts without the turn that is about to be taken.
func (im *importer) before() importCounts {
	n := im.counts
	n.Turns--
	return n
}

// done prints the result.
func (im *importer) done(sum importSummary) error {
	if im.o.json {
		if err := im.c.printJSON(sum); err != nil {
			return err
		}
	}
	im.spelt.print(im.c.stderr)
	what := fmt.Sprintf("%s stored in %s (%.0f/s)", plural.Of(sum.Stored, "turn"), time.Duration(sum.Seconds*float64(time.Second)).Round(time.Millisecond), float64(sum.Stored)/sum.Seconds)
	if sum.DryRun {
		what = plural.Of(sum.Turns-sum.Refused, "turn") + " can be imported"
	}
	fmt.Fprintf(im.c.stderr, "%s, from %s; %d refused, %s unreadable, %d ignored\n", what, plural.Of(sum.Files, "file"), sum.Refused, plural.Of(sum.Unreadable, "file"), sum.Ignored)
	if sum.LeftOut > 0 {
		fmt.Fprintf(im.c.stderr, "%s left out: a conversation ends before the turn of a message that was refused\n", plural.Of(sum.LeftOut, "message"))
	}
	if sum.Empty > 0 {
		fmt.Fprintf(im.c.stderr, "conversations and turns without a word, which are not stored: %d\n", sum.Empty)
	}
	if sum.Files == 0 {
		return failed(fmt.Errorf("nothing to import: %s has no file *.json, *.jsonl or *.ndjson (or .gz of these), and no archive is looked into: unpack it first", im.from.given))
	}
	if sum.Refused+sum.Unreadable > 0 {
		return failed(fmt.Errorf("%s and %s cannot be accepted (see above): correct them and run it again, which adds nothing twice", plural.Of(sum.Refused, "turn"), plural.Of(sum.Unreadable, "file")))
	}
	return nil
}

// refuse tells of what cannot be accepted.
func (im *importer) refuse(at place, err error) {
	if at.number == 0 {
		im.counts.Unreadable++
	} else {
		im.counts.Refused++
	}
	if im.o.json {
		im.broken = errors.Join(im.broken, im.c.printJSON(refusal{at.file, at.number, oneLine(err)}))
		return
	}
	where := at.String()
	if at.number == 0 {
		where = at.file
	}
	fmt.Fprintf(im.c.stderr, "%s: %s\n", where, oneLine(err))
}

// all takes every turn of the source.
func (im *importer) all(ctx context.Context, step func()) error {
	return im.from.each(ctx, im.note.position(), func(f importFile) error {
		var err error
		switch {
		case f.kind == ignoredFile:
			if !f.done {
				im.counts.Ignored++
			}
			return nil
		case f.done:
		default:
			im.countFile(f)
			err = im.file(ctx, f, step)
		}
		im.bytes += f.size
		step()
		return errors.Join(err, im.broken)
	})
}

// countFile counts a file once, also when it was begun before.
func (im *importer) countFile(f importFile) {
	if !f.resumed {
		im.counts.Files++
	}
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/folder"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// exportMode is the mode of a file that is exported: it holds what was said.
const exportMode = 0o600

// exportOptions are the flags of `session export`.
type exportOptions struct {
	store  storeOptions
	all    bool
	prefix string
	format string
	leaf   string
	out    string
	json   bool
}

func (o *exportOptions) check(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return usage(cmd, fmt.Errorf("unexpected argument %q", args[1]))
	case o.all && len(args) == 1:
		return usage(cmd, errors.New("--all and a session id do not go together"))
	case !o.all && len(args) == 0:
		return usage(cmd, errors.New("the session id is missing, or --all"))
	case o.prefix != "" && !o.all:
		return usage(cmd, errors.New("--prefix goes with --all"))
	case o.leaf != "" && o.all:
		return usage(cmd, errors.New("--leaf goes with one session"))
	case checkLeaf(o.leaf) != nil:
		return usage(cmd, checkLeaf(o.leaf))
	case o.json && o.out == "":
		return usage(cmd, errors.New("--json goes with --out: without it the sessions are on standard output"))
	case o.out != "" && holdsDocuments(o.out):
		return usage(cmd, fmt.Errorf("--out %s is a transcripts folder, whose documents would be written over: choose another", o.out))
	case len(args) == 1:
		if err := transcript.CheckSessionID(args[0]); err != nil {
			return usage(cmd, err)
		}
	}
	return nil
}

// holdsDocuments reports whether a folder surely is one of transcripts.
func holdsDocuments(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, identityFile))
	return err == nil
}

func (c *cli) sessionExport() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export ID | --all",
		Short: "Export transcripts, for reading or for other programs",
		Long: `Print transcripts, or write a file for each into a folder, atomically.

markdown: for reading; nothing of what was said is active in it, and control characters are
replaced. jsonl: one turn a line, whole, as ` + "`afterword publish`" + ` and ` + "`afterword import`" + ` take it back
without doubling anything. json: the document that chat services kept before, with timestamp,
user and assistant of every turn and nothing else; it leaves out which turn is which, so
importing it again makes other turns.

messages, chatgpt, claude, langchain, sharegpt, responses: a conversation for each session in the
format that ` + "`afterword import`" + ` knows by this name. The member "afterword" beside the messages has
what the format has no place for; with it importing again adds nothing. docs/import.md says more.

Of a session with branches, chatgpt and claude have all. messages, langchain, sharegpt and responses tell
one, that of the newest answered turn or of --leaf; the other turns are in the member "afterword".
markdown, jsonl and json have all turns in order, and with --leaf those of its branch alone.

A session that cannot be read is named, the others are exported, and the exit code is 1.`,
		Example: `  afterword session export abc
  afterword session export --all --prefix customer- --format jsonl | gzip > customers.jsonl.gz
  afterword session export --all --format json --out /srv/export`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args); err != nil {
				return err
			}
			form, err := exportFormat(o.format)
			if err != nil {
				return usage(cmd, err)
			}
			return c.readTranscripts(cmd.Context(), o.store, func(ctx context.Context, s *transcript.Store) error {
				e := &exporter{c: c, o: o, store: s, out: bufio.NewWriter(c.stdout), format: form}
				if o.all {
					return e.everything(ctx)
				}
				return e.only(ctx, args[0])
			})
		},
	}
	f := flags{cmd.Flags()}
	o.store.add(f)
	f.BoolVar(&o.all, "all", false, "all sessions")
	f.StringVar(&o.prefix, "prefix", "", "with --all, only sessions whose id begins so")
	f.StringVar(&o.format, "format", formatMarkdown, "`FORMAT`: "+strings.Join(exportFormats(), ", "))
	f.StringVar(&o.leaf, "leaf", "", "`ID` of the turn in which the branch to export ends; none means the newest answered one")
	f.StringVar(&o.out, "out", "", "write a file for each session into this `FOLDER`, which is made if it is missing")
	f.BoolVar(&o.json, "json", false, "with --out, print a summary as JSON")
	return cmd
}

// exporter writes transcripts, one after the other.
type exporter struct {
	c     *cli
	o     exportOptions
	store *transcript.Store
	out   *bufio.Writer
	format

	made     bool // the folder is there
	sum      exportSummary
	rendered []byte
}

// exportSummary is what `session export --out --json` prints.
type exportSummary struct {
	Sessions uint64 `json:"sessions"`
	Turns    uint64 `json:"turns"`
	Failed   uint64 `json:"failed"` // sessions that cannot be read
}

// close ends what is on standard output.
func (e *exporter) close() error {
	var end string
	switch {
	case e.o.out != "":
	case e.sum.Sessions > 0:
		end = e.end
	case e.begin != "": // of none
		end = e.begin + e.end
	}
	_, err := e.out.WriteString(end)
	return errors.Join(err, e.out.Flush())
}

func (e *exporter) only(ctx context.Context, session string) error {
	err := e.one(ctx, session)
	if errors.Is(err, transcript.ErrNoSession) {
		return failed(fmt.Errorf("%w %q in %s: `afterword session ls` lists those that are there", err, session, e.store.Dir()))
	}
	if errors.Is(err, transcript.ErrNoTurn) {
		return noLeaf(session, e.o.leaf)
	}
	if err == nil {
		err = errors.Join(e.close(), e.summary())
	}
	return err
}

// everything exports one session after the other: memory is that of one.
func (e *exporter) everything(ctx context.Context) error {
	m := e.c.meter("sessions exported")
	defer m.stop()
	total, err := e.count(ctx, m != nil)
	if err != nil {
		return err
	}
	err = e.store.EachSession(ctx, e.o.prefix, func(token, session string, err error) error {
		if err == nil {
			err = e.one(ctx, session)
		}
		switch {
		case errors.Is(err, transcript.ErrNoSession): // an empty tail, or gone since
			err = nil
		case transcript.SessionFault(err):
			e.sum.Failed++
			fmt.Fprintf(e.c.stderr, "session %s: %s\n", token, oneLine(err))
			err = nil
		}
		m.set(e.sum.Sessions+e.sum.Failed, total)
		return errors.Join(err, context.Cause(ctx))
	})
	m.stop()
	if err != nil {
		return errors.Join(err, e.out.Flush())
	}
	if err := e.close(); err != nil {
		return err
	}
	if err := e.summary(); err != nil {
		return err
	}
	if e.sum.Failed > 0 {
		return failed(fmt.Errorf("%s cannot be read (see above), %d %s exported: `afterword verify --all --repair` mends %s",
			plural.Of(e.sum.Failed, "session"), e.sum.Sessions, plural.Were(e.sum.Sessions), plural.Verb(e.sum.Failed, "it", "them")))
	}
	return nil
}

// count returns how many sessions there are, when somebody looks. It reads folders, and
// of transcripts only those whose names do not tell their session.
func (e *exporter) count(ctx context.Context, watched bool) (n uint64, err error) {
	if !watched {
		return 0, nil
	}
	err = e.store.EachSession(ctx, e.o.prefix, func(string, string, error) error { n++; return nil })
	return n, err
}

func (e *exporter) one(ctx context.Context, session string) error {
	doc, err := e.store.Read(ctx, session)
	if err != nil {
		return err
	}
	turns, err := doc.Turns()
	if err != nil {
		return err
	}
	if e.rendered, err = e.format.render(e.rendered[:0], session, turns, e.o.leaf); err != nil {
		return err
	}
	if err := e.write(session); err != nil {
		return err
	}
	e.sum.Sessions++
	e.sum.Turns += uint64(len(turns))
	return nil
}

func (e *exporter) write(session string) error {
	if e.o.out == "" {
		between := e.between
		if e.sum.Sessions == 0 {
			between = e.begin
		}
		if _, err := e.out.WriteString(between); err != nil {
			return err
		}
		_, err := e.out.Write(e.rendered)
		return err
	}
	e.rendered = append(append([]byte(e.begin), e.rendered...), e.end...)
	if !e.made {
		if err := folder.Make(e.o.out); err != nil {
			return fileError("--out", err)
		}
		e.made = true
	}
	path := filepath.Join(e.o.out, transcript.Token(session)+e.format.suffix)
	err := renameio.WriteFile(path, e.rendered, exportMode, renameio.IgnoreUmask())
	if err == nil {
		err = folder.Inherit(path)
	}
	if err != nil {
		return fileError("--out", err)
	}
	return nil
}

func (e *exporter) summary() error {
	if e.o.json {
		return e.c.printJSON(e.sum)
	}
	if e.o.out != "" {
		_, err := io.WriteString(e.c.stderr, fmt.Sprintf("%s with %s exported to %s\n", plural.Of(e.sum.Sessions, "session"), plural.Of(e.sum.Turns, "turn"), e.o.out))
		return err
	}
	return nil
}

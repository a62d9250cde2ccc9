package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/transcript"
)

// listPage is how many sessions a listing takes at a time.
const listPage = 500

func (c *cli) session() *cobra.Command {
	return c.group(&cobra.Command{
		Use:     "session",
		Short:   "Look at transcripts",
		Example: "  afterword session ls\n  afterword session show abc",
	}, c.sessionList(), c.sessionShow(), c.sessionTail(), c.sessionExport())
}

// sessionLine is a session as `session ls --json` prints it.
type sessionLine struct {
	SessionID string `json:"session_id"`
	Turns     int    `json:"turns"`
	UpdatedAt string `json:"updated_at"`
}

func (c *cli) sessionList() *cobra.Command {
	var store storeOptions
	var prefix string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List sessions",
		Long:  "List the sessions that have a transcript, in the order of their files.",
		Example: `  afterword session ls --prefix customer-
  afterword session ls --limit 0 --json | wc -l`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usage(cmd, errors.New("--limit is negative"))
			}
			return c.readTranscripts(cmd.Context(), store, func(ctx context.Context, s *transcript.Store) error {
				return c.list(ctx, s, prefix, limit, asJSON)
			})
		},
	}
	f := flags{cmd.Flags()}
	store.add(f)
	f.StringVar(&prefix, "prefix", "", "only sessions whose id begins so")
	f.IntVar(&limit, "limit", 100, "at most so many; 0 means all")
	f.BoolVar(&asJSON, "json", false, "print JSON: one object per line")
	return cmd
}

func (c *cli) list(ctx context.Context, s *transcript.Store, prefix string, limit int, asJSON bool) error {
	out := bufio.NewWriter(c.stdout)
	listed, cursor := 0, ""
	for {
		n := listPage
		if limit > 0 {
			n = min(n, limit-listed)
		}
		page, err := s.List(ctx, prefix, cursor, n)
		if err != nil {
			return errors.Join(out.Flush(), err)
		}
		if err := printSessions(out, page.Sessions, asJSON); err != nil {
			return err
		}
		listed += len(page.Sessions)
		cursor = page.Next
		if cursor == "" || listed == limit && limit > 0 {
			break
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if cursor != "" {
		fmt.Fprintf(c.stderr, "only the first %d are listed: --limit 0 lists all\n", limit)
	}
	return nil
}

func printSessions(out *bufio.Writer, sessions []transcript.Session, asJSON bool) error {
	if len(sessions) == 0 {
		return nil
	}
	if asJSON {
		c := cli{stdout: out}
		for _, s := range sessions {
			if err := c.printJSON(sessionLine{s.ID, s.Turns, s.UpdatedAt.String()}); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable("session", "turns", "updated")
	for _, s := range sessions {
		t.AppendRow(table.Row{s.ID, s.Turns, s.UpdatedAt})
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}

func (c *cli) sessionShow() *cobra.Command {
	var store storeOptions
	var last int
	var leaf string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print a transcript",
		Long: `Print the document of a session, with the turns that are committed and not yet
folded into its file. It has the turns of all branches, in order. With --leaf: one
branch, as a history has it, one turn per line.`,
		Example: `  afterword session show abc
  afterword session show abc --turns 3
  afterword session show abc --leaf 0192f0c8-7a11-7000-8000-000000000001`,
		Args: oneArg("the session id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < 0 {
				return usage(cmd, errors.New("--turns is negative"))
			}
			if err := checkLeaf(leaf); err != nil {
				return usage(cmd, err)
			}
			if err := transcript.CheckSessionID(args[0]); err != nil {
				return usage(cmd, err)
			}
			return c.readTranscripts(cmd.Context(), store, func(ctx context.Context, s *transcript.Store) error {
				view, err := s.View(ctx, args[0])
				if errors.Is(err, transcript.ErrNoSession) {
					return failed(fmt.Errorf("%w %q in %s: `afterword session ls` lists those that are there", err, args[0], s.Dir()))
				}
				if err != nil {
					return err
				}
				defer view.Close()
				switch all := !cmd.Flags().Changed("turns"); {
				case leaf != "" && all:
					return c.printPath(ctx, s, args[0], transcript.PathQuery{Leaf: leaf, Limit: view.Len()})
				case leaf != "":
					return c.printPath(ctx, s, args[0], transcript.PathQuery{Leaf: leaf, Limit: last})
				case !all:
					return c.printLast(ctx, view, last)
				}
				_, err = view.WriteTo(ctx, c.stdout)
				return err
			})
		},
	}
	f := flags{cmd.Flags()}
	store.add(f)
	f.StringVar(&leaf, "leaf", "", "print only the answered turns up to the turn `ID`, each followed by the next, one per line")
	f.IntVar(&last, "turns", 0, "print only the last so many turns, one per line")
	f.BoolVar(&asJSON, "json", false, "print JSON, which a transcript is without it too")
	return cmd
}

// checkLeaf looks at what --leaf gives, which may be nothing.
func checkLeaf(id string) error {
	if id != "" && transcript.CheckTurnID(id) != nil {
		return errors.New("--leaf is the id of a turn: 1 to 128 of A-Z a-z 0-9 . _ : -")
	}
	return nil
}

// noLeaf is the error for a session without the turn that --leaf names.
func noLeaf(session, id string) error {
	return failed(fmt.Errorf("session %q has no turn %s", session, id))
}

// printPath prints the turns of a branch.
func (c *cli) printPath(ctx context.Context, s *transcript.Store, session string, q transcript.PathQuery) error {
	path, err := s.Path(ctx, session, q)
	if errors.Is(err, transcript.ErrNoTurn) {
		return noLeaf(session, q.Leaf)
	}
	if err != nil {
		return err
	}
	out := bufio.NewWriter(c.stdout)
	var line []byte
	for i := range path.Turns {
		line = append(path.Turns[i].AppendMessage(line[:0]), '\n')
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return out.Flush()
}

func (c *cli) printLast(ctx context.Context, view *transcript.View, n int) error {
	out := bufio.NewWriter(c.stdout)
	var line []byte
	err := view.Each(ctx, max(view.Len()-n, 0), view.Len(), func(_ int, t *transcript.Snapshot) error {
		line = append(t.AppendMessage(line[:0]), '\n')
		_, err := out.Write(line)
		return err
	})
	return errors.Join(err, out.Flush())
}

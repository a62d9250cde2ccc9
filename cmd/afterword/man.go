package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/afterword-io/afterword/internal/folder"
)

func (c *cli) man() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man --dir FOLDER",
		Short: "Write the manual pages",
		Long: `Write a manual page for every command, of section 1. Their date is SOURCE_DATE_EPOCH when that is
set, or else that of the commit, so that the same source gives the same pages.`,
		Example: `  afterword man --dir man1
  man man1/afterword-status.1`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usage(cmd, errors.New("--dir is missing"))
			}
			date, err := c.sourceDate()
			if err != nil {
				return err
			}
			if err := folder.Make(dir); err != nil {
				return fileError("--dir", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			head := &doc.GenManHeader{Section: "1", Source: "afterword " + thisBuild().Version, Manual: "afterword", Date: &date}
			if err := doc.GenManTree(root, head, dir); err != nil {
				return fileError("--dir", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`FOLDER` for the pages, which is made if it is missing")
	return cmd
}

// sourceDate is the date of the source; the epoch when that is not known.
func (c *cli) sourceDate() (time.Time, error) {
	if v, ok := c.env("SOURCE_DATE_EPOCH"); ok && v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("environment variable SOURCE_DATE_EPOCH: %q is no number of seconds", v)
		}
		return time.Unix(n, 0).UTC(), nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return t.UTC(), nil
			}
		}
	}
	return time.Unix(0, 0).UTC(), nil
}

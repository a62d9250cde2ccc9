package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/afterword-io/afterword/transcript"
)

// fileKind is what an import makes of a file.
type fileKind int

const (
	ignoredFile fileKind = iota
	jsonFile
	linesFile
)

// companion reports whether a file is one of an export of ChatGPT or Claude whose conversations are
// beside it, or beside a folder that it is in. Which files there are changes: who they tell of, what
// was shared or rated. What holds no conversation among them is no part of an import.
func (s importSource) companion(path string) bool {
	if !s.folder || strings.HasPrefix(filepath.Base(path), "conversations") {
		return false
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if beside, err := filepath.Glob(filepath.Join(escapeGlob(dir), "conversations*.json*")); err == nil && len(beside) > 0 {
			return true
		}
		if dir == s.path || dir == filepath.Dir(dir) {
			return false
		}
	}
}

var escapeGlob = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace

// kindOfFile goes by the name.
func kindOfFile(name string) fileKind {
	if strings.HasPrefix(filepath.Base(name), ".") {
		return ignoredFile
	}
	switch filepath.Ext(strings.TrimSuffix(name, ".gz")) {
	case ".jsonl", ".ndjson":
		return linesFile
	case ".json":
		return jsonFile
	}
	return ignoredFile
}

// importFile is a file of an import.
type importFile struct {
	path, name string // where it is, and what it is called: from the folder on, or as it was given
	kind       fileKind
	size       int64
	modified   transcript.Instant
	after      int  // lines or messages of it that were taken before
	resumed    bool // it was begun before
	done       bool // all of it was taken before
}

// importSource is a file, or a folder of them.
type importSource struct {
	path   string // absolute
	given  string
	folder bool
}

func openSource(path string) (importSource, error) {
	s := importSource{given: path}
	info, err := os.Stat(path)
	if err != nil {
		return s, fileError("PATH", err)
	}
	if s.path, err = filepath.Abs(path); err != nil {
		return s, err
	}
	if s.folder = info.IsDir(); s.folder { // a walk does not follow the link that it begins at
		if s.path, err = filepath.EvalSymlinks(s.path); err != nil {
			return s, fileError("PATH", err)
		}
	}
	if !s.folder && kindOfFile(path) == ignoredFile {
		todo := "rename it to what it is"
		if filepath.Ext(path) == ".zip" {
			todo = "unpack it and import the folder"
		}
		return s, fmt.Errorf("%s is neither *.json, *.jsonl nor *.ndjson (or .gz of these): %s", path, todo)
	}
	return s, nil
}

// position is where an import goes on: with a turn of a file.
type position struct {
	File   string `json:"file"` // "" is the beginning
	Number int    `json:"number"`
}

// after reports whether all of a file was taken before.
func (p position) after(name string) bool {
	if p.File == "" {
		return false
	}
	return slices.Compare(strings.Split(name, "/"), strings.Split(p.File, "/")) < 0
}

// each calls fn with every file, always in the same order: those before a position are done. A folder
// that cannot be read ends it: what is in it is not known.
func (s importSource) each(ctx context.Context, from position, fn func(importFile) error) error {
	return s.walk(ctx, func(f importFile) error {
		f.done = from.after(f.name)
		if f.name == from.File {
			f.after, f.resumed = from.Number-1, true
		}
		return fn(f)
	})
}

func (s importSource) walk(ctx context.Context, fn func(importFile) error) error {
	if !s.folder {
		info, err := os.Stat(s.path)
		if err != nil {
			return err
		}
		return fn(importFile{path: s.path, name: s.given, kind: kindOfFile(s.path), size: info.Size(), modified: transcript.InstantOf(info.ModTime())})
	}
	return filepath.WalkDir(s.path, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case e.IsDir():
			return nil
		}
		name, err := filepath.Rel(s.path, path)
		if err != nil {
			return err
		}
		f := importFile{path: path, name: filepath.ToSlash(name), kind: kindOfFile(path)}
		if !e.Type().IsRegular() {
			f.kind = ignoredFile
			return fn(f)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f.size, f.modified = info.Size(), transcript.InstantOf(info.ModTime())
		return fn(f)
	})
}

// size is how long all files together are, 0 when that is not known.
func (s importSource) size(ctx context.Context) (sum int64) {
	err := s.walk(ctx, func(f importFile) error {
		if f.kind != ignoredFile {
			sum += f.size
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return sum
}

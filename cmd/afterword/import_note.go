package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"

	"github.com/afterword-io/afterword/internal/folder"
)

// importNote is how far an import came: everything before its position is stored, or
// was refused. It is in a file, which is replaced as a whole. A nil note keeps nothing.
type importNote struct {
	Path     string       `json:"path"` // that is imported
	BaseTime string       `json:"base_time"`
	At       position     `json:"at"`
	Counts   importCounts `json:"counts"`

	file string
}

// openImportNote reads the note that an interrupted import left, and refuses that of another.
func openImportNote(file, path, baseTime string) (*importNote, error) {
	n := &importNote{Path: path, BaseTime: baseTime, file: file}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, fileError("--resume", err)
	}
	var old importNote
	if err := json.Unmarshal(b, &old); err != nil || old.Path == "" {
		return nil, fmt.Errorf("--resume %s is no note of an import: give another file", file)
	}
	if old.Path != path || old.BaseTime != baseTime {
		return nil, fmt.Errorf("--resume %s is the note of an import of %s with --base-time %q: finish that one, or remove the note", file, old.Path, old.BaseTime)
	}
	n.At, n.Counts = old.At, old.Counts
	return n, nil
}

func (n *importNote) position() position {
	if n == nil {
		return position{}
	}
	return n.At
}

// save notes that everything before a turn is done.
func (n *importNote) save(at place, counts importCounts) error {
	n.At, n.Counts = position{at.file, at.number}, counts
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	err = renameio.WriteFile(n.file, append(b, '\n'), exportMode)
	if err == nil {
		err = folder.Inherit(n.file)
	}
	if err != nil {
		return fileError("--resume", err)
	}
	return nil
}

// remove ends the note of an import that is done.
func (n *importNote) remove() error {
	if n == nil {
		return nil
	}
	if err := os.Remove(n.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError("--resume", err)
	}
	return nil
}

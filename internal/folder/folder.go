// Package folder creates the folders that the program keeps data in.
package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// private is the mode of a folder that only its owner may look into.
const private = 0o700

// Make creates dir, owned as [Inherit] says, private whatever the umask, and the folders above it that
// are missing, so that they are there after a power cut: a name is durable only
// when the folder that holds it is synced. The folders above are synced even
// if all are there, for whoever made them may have ended before it did so; one
// that this process did not make and may not sync is left alone.
func Make(dir string) error {
	whole, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	missing := make(map[string]bool)
	for at := whole; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing[at] = true
	}
	if err := os.MkdirAll(dir, private); err != nil {
		return err
	}
	if missing[whole] {
		if err := os.Chmod(dir, private); err != nil {
			return err
		}
	}
	for _, at := range slices.Sorted(maps.Keys(missing)) { // from above
		if err := Inherit(at); err != nil {
			return err
		}
	}
	for at := whole; at != filepath.Dir(at); at = filepath.Dir(at) {
		if err := Sync(filepath.Dir(at)); err != nil && missing[at] {
			return fmt.Errorf("make the name of folder %s durable: %w", at, err)
		}
	}
	return nil
}

// Try returns the error with which [Make] could not create dir. It leaves nothing behind.
func Try(dir string) error {
	var missing []string // from below
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, at)
	}
	err := os.MkdirAll(dir, private)
	for _, at := range missing {
		os.Remove(at) // while it is empty
	}
	return err
}

// Sync makes the names in a folder durable.
func Sync(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// fileError says what to do about a file or folder that somebody gave, as what.
func fileError(what string, err error) error {
	if err == nil {
		return nil
	}
	help := "give another path"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		help = "there is nothing at this path; correct it"
	case errors.Is(err, fs.ErrPermission):
		help = "run it as a user that may, or give another path"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		help = "make room there, or give another path"
	case errors.Is(err, syscall.EROFS):
		help = "nothing can be written there; give another path"
	case errors.Is(err, syscall.EISDIR):
		help = "it is a folder; give a file"
	case errors.Is(err, syscall.ENOTDIR):
		help = "a part of it is a file; give another path"
	}
	return fmt.Errorf("%s: %w: %s", what, err, help)
}

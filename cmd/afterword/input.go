package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync/atomic"

	"github.com/afterword-io/afterword/transcript"
)

// input is a file of JSON lines.
type input struct {
	name  string
	size  int64 // bytes as stored; 0 when not known
	base  transcript.Instant
	most  int          // bytes of a line
	read  atomic.Int64 // of size
	turns int          // lines so far that are not blank
	spelt *misspelt    // what is noted of members that resemble known ones

	src   io.Reader
	close func() error
}

// inputError says that the input cannot be read.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// openInput opens a file, or standard input for "-". What is not a file has no
// modification time that stays the same, so it needs a base time.
func openInput(name, baseTime string, stdin io.Reader) (*input, error) {
	in := &input{name: name, most: maxLine, spelt: &misspelt{}, src: stdin, close: func() error { return nil }}
	needsBase := true
	if name == "-" {
		in.name = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, fileError("--file", err)
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, fileError("--file", err)
		}
		if info.IsDir() {
			f.Close()
			return nil, fmt.Errorf("--file %s is a folder: give a file of JSON lines", name)
		}
		in.src, in.close = f, f.Close
		if info.Mode().IsRegular() {
			needsBase = false
			in.size, in.base = info.Size(), transcript.InstantOf(info.ModTime())
		}
	}
	if baseTime != "" {
		var err error
		if in.base, err = transcript.ParseInstant(baseTime); err != nil {
			in.close()
			return nil, fmt.Errorf("--base-time %q: %w: write it as 2026-01-31T00:00:00Z", baseTime, err)
		}
	} else if needsBase {
		in.close()
		return nil, errors.New("--base-time is missing: " + in.name + " has no modification time from which lines could be dated, the same in every run; give one as 2026-01-31T00:00:00Z")
	}
	return in, nil
}

// Read counts what is read.
func (in *input) Read(p []byte) (int, error) {
	n, err := in.src.Read(p)
	in.read.Add(int64(n))
	return n, err
}

// estimate guesses how many turns there are from those so far; 0 means unknown.
func (in *input) estimate() uint64 {
	read := in.read.Load()
	if in.size == 0 || read == 0 {
		return 0
	}
	return uint64(float64(in.turns) * max(1, float64(in.size)/float64(read)))
}

// line is one line of input, or why there is none.
type line struct {
	text    []byte
	number  int
	skipped int // bytes before the text
	err     error
}

// place makes the offset of an error one in the line as the file has it.
func (l *line) place(err error) error {
	var syntax *transcript.SyntaxError
	if errors.As(err, &syntax) {
		syntax.Offset += int64(l.skipped)
	}
	return err
}

// lines reads the input in a goroutine of its own, because a read cannot be
// cancelled and standard input may never come. The last line has an error,
// io.EOF at the end; none of it comes when ctx ends first.
func (in *input) lines(ctx context.Context) iter.Seq[line] {
	return func(yield func(line) bool) {
		next, done := make(chan line), make(chan struct{})
		defer close(done)
		go func() {
			send := func(l line) bool {
				select {
				case next <- l:
					return l.err == nil || l.err == errLongLine
				case <-done:
					return false
				}
			}
			r, err := newLineReader(in, in.most)
			if err != nil {
				send(line{err: err})
				return
			}
			for {
				text, number, err := r.next()
				if !send(line{text, number, r.skipped(number), err}) {
					return
				}
			}
		}()
		for {
			select {
			case l := <-next:
				if !yield(l) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

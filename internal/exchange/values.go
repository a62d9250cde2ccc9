package exchange

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// mark is the byte order mark, with which some editors begin a file.
const mark = "\xef\xbb\xbf"

// Text is the text of a file behind its byte order mark, if it has one.
type Text struct {
	*bufio.Reader
	Skipped int // bytes of the mark: offsets in the file are so much larger
}

// OpenText reads a file of text: plain or gzip. Text that is not UTF-8 by its first bytes is an
// error that names its encoding.
func OpenText(r io.Reader) (Text, error) {
	const buffer = 64 << 10
	br := bufio.NewReaderSize(r, buffer)
	if magic, _ := br.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(br)
		if err != nil {
			return Text{}, fmt.Errorf("gzip: %w", err)
		}
		br = bufio.NewReaderSize(z, buffer)
	}
	first, _ := br.Peek(4)
	if name := encodingOf(first); name != "" {
		return Text{}, fmt.Errorf("it is %s: only UTF-8 is read; convert it, for example with iconv -f %s -t UTF-8", name, name)
	}
	if bytes.HasPrefix(first, []byte(mark)) {
		n, err := br.Discard(len(mark))
		return Text{br, n}, err
	}
	return Text{Reader: br}, nil
}

// encodingOf names the encoding of text that begins so, where that is not UTF-8. JSON begins with
// two characters of ASCII, or is shorter.
func encodingOf(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(b, []byte{0, 0, 0xfe, 0xff}):
		return "UTF-32"
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}), bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return "UTF-16"
	case len(b) == 4 && b[0] == 0 && b[1] == 0, len(b) == 4 && b[0] != 0 && b[1] == 0 && b[2] == 0:
		return "UTF-32"
	case len(b) >= 2 && b[0] == 0 && b[1] != 0:
		return "UTF-16BE"
	case len(b) >= 2 && b[0] != 0 && b[1] == 0:
		return "UTF-16LE"
	}
	return ""
}

// CheckLine reports whether a line is one JSON value, valid UTF-8 throughout.
func CheckLine(line []byte) error { return checkValue(line) }

// Element is one value of a file.
type Element struct {
	Value  jsontext.Value
	Number int   // counted from 1
	Offset int64 // of its first byte, in the file
	Array  bool  // of the one array that the file is
}

// ErrEmpty says that nothing is in a file.
var ErrEmpty = &FormatError{Reason: "is empty; expected is " + known}

// errElement says that an element is longer than is read.
var errElement = errors.New("the element is too long")

// Elements calls fn for each value of a text: those of an array, or those that follow each other. No more
// than one of them is held. An element that is longer than most bytes ends it, and so does one
// that is not well-formed, with a [*transcript.SyntaxError] whose offset is from the beginning.
func Elements(text Text, most int64, fn func(Element) error) error {
	skipped := int64(text.Skipped)
	limit := &limited{r: text, most: most}
	dec := jsontext.NewDecoder(limit)
	e := Element{}
	if e.Array = dec.PeekKind() == '['; e.Array {
		if _, err := dec.ReadToken(); err != nil {
			return syntaxError(err, skipped)
		}
	}
	for {
		kind := dec.PeekKind()
		if e.Array && kind == ']' {
			if _, err := dec.ReadToken(); err != nil {
				return syntaxError(err, skipped)
			}
			if _, err := dec.ReadToken(); err == nil {
				return &transcript.SyntaxError{Offset: skipped + dec.InputOffset(), Reason: "there is more after the array"}
			} else if !errors.Is(err, io.EOF) {
				return syntaxError(err, skipped)
			}
			return nil
		}
		limit.from = dec.InputOffset()
		value, err := dec.ReadValue()
		switch {
		case errors.Is(err, errElement):
			return fmt.Errorf("element %d, from byte %d on, is longer than the %d bytes that are read: split it", e.Number+1, skipped+limit.from, most)
		case errors.Is(err, io.EOF) && !e.Array:
			if e.Number == 0 {
				return ErrEmpty
			}
			return nil
		case err != nil:
			return syntaxError(err, skipped)
		}
		e.Number++
		e.Value, e.Offset = value, skipped+dec.InputOffset()-int64(len(value))
		if err := fn(e); err != nil {
			return err
		}
	}
}

// limited fails once more than most bytes follow after from.
type limited struct {
	r          io.Reader
	most, from int64
	read       int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.read-l.from > l.most {
		return 0, errElement
	}
	n, err := l.r.Read(p)
	l.read += int64(n)
	return n, err
}

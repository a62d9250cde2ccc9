package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/afterword-io/afterword/internal/exchange"
)

// maxLine bounds a line of input, in bytes: the longest payload of a server whose max_payload is
// 8 MiB, all of it written with \u escapes, and some white space.
const maxLine = 48 << 20

// errLongLine says that a line is longer than maxLine; it was passed over.
var errLongLine = errors.New("the line is too long")

// lineReader reads numbered lines, gzip or not, in bounded memory.
type lineReader struct {
	r      exchange.Text
	most   int // bytes of a line
	number int
}

// newLineReader reads lines of at most so many bytes.
func newLineReader(r io.Reader, most int) (*lineReader, error) {
	text, err := exchange.OpenText(r)
	if err != nil {
		return nil, err
	}
	return &lineReader{r: text, most: most}, nil
}

// skipped is how many bytes of the file stand before the text of a line in it.
func (l *lineReader) skipped(number int) int {
	if number == 1 {
		return l.r.Skipped
	}
	return 0
}

// next returns the next line that is not blank, without its end, and its number,
// counted from 1. At the end it returns io.EOF. After errLongLine the next line can be read.
func (l *lineReader) next() (line []byte, number int, err error) {
	for {
		line, err = l.line()
		if err != nil {
			return nil, l.number, err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return line, l.number, nil
		}
	}
}

func (l *lineReader) line() ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := l.r.ReadSlice('\n')
		switch {
		case len(line)+len(part) > l.most:
			long, line = true, nil
		case !long:
			line = append(line, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && (len(line) > 0 || long): // the last line has no end
		case err != nil:
			return nil, err
		}
		l.number++
		if long {
			return nil, errLongLine
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
}

package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, "a\n")
	z.Close()
	z = gzip.NewWriter(&zipped) // as `cat a.gz b.gz` makes it
	io.WriteString(z, "b\n")
	z.Close()
	for name, c := range map[string]struct{ in, want string }{
		"empty":        {"", ""},
		"no end":       {"a\nb", "1 a|2 b|"},
		"blank":        {"\n \t\na\n\n", "3 a|"},
		"windows":      {"\xef\xbb\xbfa\r\nb\r\n", "1 a|2 b|"},
		"gzip":         {zipped.String(), "1 a|2 b|"},
		"longest":      {long[1:] + "\na\n", "1 " + long[1:] + "|2 a|"},
		"too long":     {"a\n" + long + "\nb\n", "1 a|2 too long|3 b|"},
		"too long end": {"a\n" + long + "xx", "1 a|2 too long|"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := newLineReader(strings.NewReader(c.in), maxLine)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for {
				line, number, err := r.next()
				if err == io.EOF {
					break
				}
				if errors.Is(err, errLongLine) {
					line = []byte("too long")
				} else if err != nil {
					t.Fatal(err)
				}
				got.WriteString(string(rune('0'+number)) + " " + string(line) + "|")
			}
			if got.String() != c.want {
				t.Errorf("got %.100q, want %.100q", got.String(), c.want)
			}
		})
	}
}

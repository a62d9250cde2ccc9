// Package terminal keeps what somebody else wrote from steering the terminal that it is
// printed on: escape sequences, text that reads in another order than it stands in, and
// characters that do not show.
//
// [Escape] and [Writer] write such a character as \u and four hex digits (two of them
// beyond U+FFFF), which in JSON is the same text, and a byte that is no UTF-8 as \x and two. All
// else is as it was; a backslash too, so an escape proves nothing about the text.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// Harmful reports whether a character is escaped: controls (C0, DEL, C1), format characters (bidi
// controls and isolates, zero-width characters, tags), line and paragraph separators, and what else does not show: fillers, and
// variation selectors, in which text can be hidden, except the two of emoji.
func Harmful(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point) ||
		unicode.Is(unicode.Variation_Selector, r) && r != 0xfe0e && r != 0xfe0f
}

// Harmless reports whether a text can be printed as it is, on one line.
func Harmless(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, Harmful) }

// Escape makes a text fit to be part of a line.
func Escape(s string) string {
	if Harmless(s) {
		return s
	}
	return string(appendEscaped(make([]byte, 0, len(s)+16), []byte(s), Harmful))
}

func appendEscaped(dst, s []byte, harmful func(rune) bool) []byte {
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && n == 1:
			dst = fmt.Appendf(dst, `\x%02x`, s[0])
		case !harmful(r):
			dst = append(dst, s[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		s = s[n:]
	}
	return dst
}

// Writer escapes what is written through it, but for line feeds and tabs.
type Writer struct {
	w   io.Writer
	raw *bool

	mu   sync.Mutex
	text []byte // escaped
	part []byte // the beginning of a character, whose rest is not written yet
}

// NewWriter makes one. While *raw is true it writes what it is given; nil is never.
func NewWriter(w io.Writer, raw *bool) *Writer { return &Writer{w: w, raw: raw} }

// Write writes all but the beginning of a character.
func (w *Writer) Write(p []byte) (int, error) {
	if w.raw != nil && *w.raw {
		return w.w.Write(p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	all := append(w.part, p...)
	whole := len(all)
	for n := 1; n < utf8.UTFMax && n <= len(all); n++ { // a character may be cut off at the end
		if last := all[len(all)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				whole = len(all) - n
			}
			break
		}
	}
	w.text = appendEscaped(w.text[:0], all[:whole], func(r rune) bool { return r != '\n' && r != '\t' && Harmful(r) })
	w.part = append([]byte(nil), all[whole:]...)
	if _, err := w.w.Write(w.text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes a character that was begun and has no rest.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := appendEscaped(nil, w.part, Harmful)
	w.part = nil
	_, err := w.w.Write(rest)
	return err
}

// File returns the terminal that w writes to, through a [Writer] or not; nil when it is none.
func File(w io.Writer) *os.File {
	if through, ok := w.(*Writer); ok {
		w = through.w
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/internal/exchange"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// fileImport takes the turns of one file.
type fileImport struct {
	im      *importer
	f       importFile
	in      *input
	convert *exchange.Converter
	where   string // what is read of a file that has no lines; "" of others
	number  int    // of the line, or of the turn in a file that has no lines
	taken   int    // turns
}

// errCompanion says that a file beside conversations holds none.
var errCompanion = errors.New("no conversation is in it")

// file takes the turns of a file. What cannot be accepted is told; an error ends the import.
func (im *importer) file(ctx context.Context, f importFile, step func()) error {
	file, err := os.Open(f.path)
	if err != nil {
		im.refuse(place{file: f.name}, err)
		return nil
	}
	fi := &fileImport{im: im, f: f, in: &input{name: f.name, base: f.modified, most: maxElement, src: file, size: f.size, close: file.Close}}
	defer file.Close()
	im.inside = fi.in
	defer func() { im.inside = nil }()
	if im.base != nil {
		fi.in.base = *im.base
	}
	fi.convert = &exchange.Converter{Session: sessionOf(im.from, f), Base: fi.in.base, Take: func(payloads [][]byte) error {
		return fi.converted(ctx, payloads)
	}, Refuse: fi.refused, Misspelt: fi.misspelt, Doubt: fi.doubted}
	read := fi.elements
	if f.kind == linesFile && indented(f.path) {
		fi.f.kind = jsonFile
	}
	if fi.f.kind == linesFile {
		read = fi.lines
	}
	switch err := read(ctx, step); {
	case err == errCompanion:
		im.counts.Files--
		im.counts.Ignored++
		fmt.Fprintf(im.c.stderr, "%s: %v: ignored\n", f.name, err)
		return nil
	case err != nil:
		return err
	}
	if fi.f.kind == linesFile {
		fi.number++
	}
	err = fi.settle(fi.convert.End())
	im.counts.LeftOut += uint64(fi.convert.LeftOut)
	im.counts.Empty += uint64(fi.convert.Empty)
	return err
}

// indented reports whether a file of lines is none: JSON that goes on over lines, as editors write it.
func indented(path string) bool {
	const most = 4 << 10
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	r, err := newLineReader(file, most)
	if err != nil {
		return false
	}
	line, _, err := r.next()
	line = bytes.TrimSpace(line)
	return err == nil && strings.ContainsRune("[{,", rune(line[len(line)-1])) && exchange.CheckLine(line) != nil
}

// sessionOf is the session of what has none itself: the file's name, from the folder on.
func sessionOf(from importSource, f importFile) string {
	name := f.name
	if !from.folder {
		name = filepath.Base(f.path)
	}
	name = strings.TrimSuffix(name, ".gz")
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// known reports whether the place at which the file is was taken before.
func (fi *fileImport) known() bool { return fi.number <= fi.f.after }

func (fi *fileImport) place() place { return place{fi.f.name, fi.number} }

// unreadable tells of a file that cannot be read to its end.
func (fi *fileImport) unreadable(err error) {
	fi.convert.Cut()
	if fi.taken > 0 {
		err = fmt.Errorf("%w; taken before that: %s", err, plural.Of(fi.taken, "turn"))
	}
	fi.im.refuse(place{file: fi.f.name}, err)
}

// settle tells of what cannot be accepted and returns every other error.
func (fi *fileImport) settle(err error) error {
	var format *exchange.FormatError
	switch {
	case err == nil:
		return nil
	case transcript.Malformed(err), errors.As(err, &format):
		fi.refuse(err)
		return nil
	}
	return err
}

// refuse tells of what cannot be accepted, where the file is.
func (fi *fileImport) refuse(err error) {
	if !fi.known() {
		fi.im.counts.Turns++
		fi.im.refuse(fi.place(), err)
	}
}

// next is the place of the turn that comes next.
func (fi *fileImport) next() place {
	at := fi.place()
	if fi.f.kind == jsonFile { // its turns are not counted yet
		at.number++
	}
	return at
}

// misspelt notes members of what is converted.
func (fi *fileImport) misspelt(found []transcript.Misspelling) error {
	at := fi.next()
	if fi.f.after >= at.number {
		return nil
	}
	err := fi.im.spelt.note(found, at)
	if rule := new(transcript.RuleError); errors.As(err, &rule) {
		return &exchange.FormatError{At: rule.Member, Reason: rule.Rule}
	}
	return err
}

// doubted notes what is wrong with the tree of a conversation that is taken.
func (fi *fileImport) doubted(err error) {
	if at := fi.next(); fi.f.after < at.number {
		fi.im.spelt.doubt(fmt.Sprintf("%s: %s%v", at, fi.where, err))
	}
}

// refused tells of a conversation that is not taken.
func (fi *fileImport) refused(err error) {
	if fi.f.kind == jsonFile {
		fi.number++
	}
	fi.refuse(fmt.Errorf("%s%w", fi.where, err))
}

// converted takes turns that were made of one conversation.
func (fi *fileImport) converted(ctx context.Context, payloads [][]byte) error {
	return fi.together(ctx, len(payloads), func(i int) (transcript.Draft, error) {
		return transcript.ParseDraft(payloads[i])
	})
}

// together takes the turns of one conversation: all of them, or none.
func (fi *fileImport) together(ctx context.Context, n int, draft func(i int) (transcript.Draft, error)) error {
	first := fi.number
	count := func(n int) {
		if fi.f.kind == jsonFile {
			fi.number = first + n
		}
	}
	defer count(n)
	if count(n); fi.known() {
		return nil
	}
	drafts := make([]transcript.Draft, n)
	for i := range drafts {
		count(i + 1)
		var err error
		if drafts[i], err = draft(i); err == nil {
			err = fi.im.check(&drafts[i])
		}
		if err == nil {
			continue
		}
		if !transcript.Malformed(err) {
			return err
		}
		fi.refuse(fi.whole(err, i, n))
		return nil
	}
	for i := range drafts {
		count(i + 1)
		if fi.known() {
			continue
		}
		if err := fi.draft(ctx, &drafts[i], nil); err != nil {
			return err
		}
	}
	return nil
}

// whole says that a conversation is not taken because of one of its turns.
func (fi *fileImport) whole(err error, i, all int) error {
	var syntax *transcript.SyntaxError
	if errors.As(err, &syntax) { // its place is in the turn that was made, and in no file
		err = errors.New(syntax.Reason)
	}
	if all == 1 {
		return err
	}
	return fmt.Errorf("%sturn %d of the conversation, of which no turn is taken: %w", fi.where, i+1, err)
}

// draft takes a turn.
func (fi *fileImport) draft(ctx context.Context, d *transcript.Draft, err error) error {
	if err == nil {
		fi.im.counts.Turns++
		if err = fi.im.take(ctx, d, fi.place()); err != nil {
			fi.im.counts.Turns--
		} else {
			fi.taken++
		}
	}
	return fi.settle(err)
}

// turn takes a turn as publish takes it.
func (fi *fileImport) turn(ctx context.Context, text []byte) error {
	d, err := transcript.ParseDraft(text)
	return fi.own(ctx, &d, err)
}

// own takes a turn that is not converted.
func (fi *fileImport) own(ctx context.Context, d *transcript.Draft, err error) error {
	if fi.known() {
		return nil
	}
	if err == nil {
		err = fi.im.spelt.take(d, fi.place())
	}
	if err == nil {
		err = fillIn(d, fi.number, fi.in.base)
	}
	return fi.draft(ctx, d, err)
}

// lines takes a file of one value a line.
func (fi *fileImport) lines(ctx context.Context, step func()) error {
	some := false // lines that are not blank
	for l := range fi.in.lines(ctx) {
		if fi.number = l.number; fi.number%256 == 0 && !fi.known() {
			step()
		}
		var err error
		switch {
		case l.err == io.EOF && !some:
			return fi.nothing("no line in it")
		case l.err == io.EOF:
			return nil
		case l.err == errLongLine:
			fi.convert.Cut()
			err = &exchange.FormatError{Reason: fmt.Sprintf("is longer than the %d bytes that are read", fi.in.most)}
		case l.err != nil:
			fi.unreadable(fmt.Errorf("cannot be read after line %d: %w", l.number, l.err))
			return nil
		default:
			err = l.place(fi.line(ctx, l.text))
		}
		some = true
		if err = fi.settle(err); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// nothing says that a file of conversations has none. That is no error: programs write such files.
func (fi *fileImport) nothing(why string) error {
	if fi.im.from.companion(fi.f.path) {
		return errCompanion
	}
	fmt.Fprintf(fi.im.c.stderr, "%s: %s: nothing to import\n", fi.f.name, why)
	return nil
}

func (fi *fileImport) line(ctx context.Context, text []byte) error {
	// Most files of lines have turns: they are not parsed twice. A message of a chat may have
	// members of a turn, and a role.
	if !bytes.Contains(text, []byte(`"role"`)) {
		if d, err := transcript.ParseDraft(text); err == nil && d.SessionID != "" {
			return fi.own(ctx, &d, nil)
		}
	}
	if err := exchange.CheckLine(text); err != nil {
		fi.convert.Cut()
		return err
	}
	kind, err := fi.convert.Add(text, fi.number)
	switch {
	case err != nil:
		return err
	case kind == exchange.Turn:
		return fi.turn(ctx, text)
	case kind == exchange.Document:
		return fi.document(ctx, text)
	}
	return nil
}

// elements takes a file that is a JSON value, an array of them, or several after each other.
func (fi *fileImport) elements(ctx context.Context, step func()) error {
	text, err := exchange.OpenText(fi.in)
	if err != nil {
		fi.unreadable(err)
		return nil
	}
	var ended error // by what is not of the file
	number := 0
	err = exchange.Elements(text, maxElement, func(e exchange.Element) error {
		number = e.Number
		step()
		if ended = context.Cause(ctx); ended != nil {
			return ended
		}
		ended = fi.element(ctx, e)
		return ended
	})
	var syntax *transcript.SyntaxError
	switch {
	case err == nil && number == 0:
		return fi.nothing("an empty list")
	case err == nil || ended != nil:
		return ended
	case errors.Is(err, exchange.ErrEmpty) && fi.im.from.companion(fi.f.path):
		return errCompanion
	case errors.As(err, &syntax):
		err = fmt.Errorf("line %d: %w", fi.lineAt(syntax.Offset), err)
	}
	fi.unreadable(err)
	return nil
}

func (fi *fileImport) element(ctx context.Context, e exchange.Element) error {
	fi.where = fmt.Sprintf("element %d, at byte %d: ", e.Number, e.Offset)
	number := e.Number
	if !e.Array && number == 1 {
		number = 0
	}
	kind, err := fi.convert.Add(e.Value, number)
	if kind == exchange.Unknown && e.Number == 1 && fi.im.from.companion(fi.f.path) {
		return errCompanion
	}
	var format *exchange.FormatError
	switch {
	case errors.As(err, &format):
		fi.refused(err)
		return nil
	case err != nil:
		return err
	case kind == exchange.Turn:
		fi.number++
		return fi.turn(ctx, e.Value)
	case kind == exchange.Document:
		return fi.document(ctx, e.Value)
	}
	return nil
}

// document takes the turns of a transcript, all or none. Their ids are those of an adopted one.
func (fi *fileImport) document(ctx context.Context, value jsontext.Value) error {
	err := exchange.CheckDocument(value)
	var turns []transcript.Snapshot
	if err == nil {
		turns, err = turnsOf(append(bytes.Clone(value), '\n'))
	}
	if err != nil {
		if fi.f.kind == jsonFile {
			fi.number++
		}
		fi.refuse(fmt.Errorf("%s%w", fi.where, err))
		return nil
	}
	if fi.f.after == 0 {
		fi.im.spelt.leave(exchange.LeftOut(value), fi.next())
	}
	undated, base := undated(turns, fi.in.base)
	err = fi.together(ctx, len(turns), func(i int) (transcript.Draft, error) {
		d, err := transcript.ParseDraft(turns[i].Payload())
		if i < undated {
			d.SetTimestamp(base + turns[i].Timestamp)
		}
		if err == nil && !fi.known() {
			err = fi.im.spelt.take(&d, fi.place())
		}
		return d, err
	})
	if err != nil {
		return err
	}
	return context.Cause(ctx)
}

// undated returns how many turns at the beginning of a transcript have no time: where a document is
// adopted in place they are dated from 1970 on. They began at base, and before the others.
func undated(turns []transcript.Snapshot, base transcript.Instant) (int, transcript.Instant) {
	const second = 1_000_000
	n := 0
	for n < len(turns) && turns[n].Timestamp < second {
		n++
	}
	if n < len(turns) {
		base = turns[n].Timestamp - transcript.Instant(n)
	}
	return n, base
}

func turnsOf(data []byte) ([]transcript.Snapshot, error) {
	session, err := transcript.DocumentSession(data)
	if err == nil {
		err = transcript.CheckSessionID(session)
	}
	if err != nil {
		return nil, err
	}
	doc, err := transcript.ParseDocument(session, data)
	if err != nil {
		return nil, err
	}
	return doc.Turns()
}

// lineAt is the number of the line in which a byte of the file is, 0 when it cannot be read again.
func (fi *fileImport) lineAt(offset int64) int {
	file, err := os.Open(fi.f.path)
	if err != nil {
		return 0
	}
	defer file.Close()
	text, err := exchange.OpenText(file)
	if err != nil {
		return 0
	}
	n := 1
	offset -= int64(text.Skipped)
	for ; offset > 0; offset-- {
		b, err := text.ReadByte()
		if err != nil {
			break
		}
		if b == '\n' {
			n++
		}
	}
	return n
}

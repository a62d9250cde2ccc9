package consumer

import (
	"context"
	"fmt"
	"strings"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// Mended is what [Verify] did about a difference.
type Mended struct {
	Merged int                  `json:"merged,omitempty"` // turns merged from the stream
	Files  *transcript.Repaired `json:"files,omitempty"`  // damaged files that were set aside and rebuilt
	Cache  bool                 `json:"cache,omitempty"`  // the cache was refreshed
	Left   string               `json:"left,omitempty"`   // what still differs, or why it could not be mended
}

// Right reports whether nothing differs any more and nothing is lost.
func (m *Mended) Right() bool { return m.Left == "" && (m.Files == nil || !m.Files.Lost()) }

// mend repairs what a comparison found, and compares again. What cannot be
// mended is part of the result; its error is about reading the stream.
func (v *verifier) mend(ctx context.Context, found *finding, want *transcript.Document) error {
	m := &Mended{}
	first := found.Difference
	if err := v.mendFiles(ctx, found, want, m); err != nil {
		m.Left = err.Error()
	}
	again, err := v.compare(ctx, first.Session, want)
	if err != nil {
		return err
	}
	if again.Cache != "" && again.Error == "" && v.cfg.RefreshCache != nil {
		if err := v.cfg.RefreshCache(ctx, first.Session); err != nil {
			m.Left = err.Error()
		} else {
			m.Cache = true
		}
		if again, err = v.compare(ctx, first.Session, want); err != nil {
			return err
		}
	}
	if again.diff() && m.Left == "" {
		m.Left = again.Difference.String()
	}
	if !again.diff() {
		m.Left = ""
	}
	v.count(m)
	*found = again
	found.Difference, found.Mended = first, m
	return ctx.Err()
}

func (v *verifier) count(m *Mended) {
	if m.Left == "" {
		v.res.Repaired++
	}
	if m.Files != nil && m.Files.Lost() {
		v.res.Lost++
	}
}

// mendFiles sets damaged files aside, and merges what the stream has.
func (v *verifier) mendFiles(ctx context.Context, found *finding, want *transcript.Document, m *Mended) error {
	if found.damaged {
		return v.rebuild(ctx, found.Session, m)
	}
	if found.Missing+found.Stale == 0 {
		return nil
	}
	have, err := want.Turns()
	if err != nil {
		return err
	}
	held := make(map[string]*transcript.Snapshot)
	doc, err := v.cfg.Store.Read(ctx, found.Session)
	if err == nil {
		turns, err := doc.Turns()
		if err != nil {
			return err
		}
		for i := range turns {
			held[turns[i].ID] = &turns[i]
		}
	}
	var lacking []transcript.Snapshot
	for i := range have {
		if h := held[have[i].ID]; h == nil || have[i].Beats(h) {
			lacking = append(lacking, have[i])
		}
	}
	m.Merged = len(lacking)
	return v.cfg.Store.Append(ctx, lacking...)
}

// rebuild repairs the damaged files of one session.
func (v *verifier) rebuild(ctx context.Context, session string, m *Mended) error {
	events, err := NewStreamReader(v.cfg.JS, v.cfg.Request).events(ctx, transcript.Token(session))
	if err != nil {
		return err
	}
	res, err := v.cfg.Store.Repair(ctx, session, events)
	if err == nil && len(res.SetAside) > 0 {
		m.Files = &res
	}
	return err
}

// nameless notes a file that does not tell its session, unless the stream does:
// then it was compared already.
func (v *verifier) nameless(ctx context.Context, token string, cause error) error {
	events, err := NewStreamReader(v.cfg.JS, v.cfg.Request).events(ctx, token)
	if err != nil || len(events.Turns) > 0 {
		return err
	}
	v.res.Sessions++
	v.res.Differing++
	d := Difference{Session: token, Error: cause.Error()}
	if v.cfg.Repair {
		d.Mended = &Mended{Left: "nothing can be done about it: the stream holds nothing of it"}
	}
	if v.cfg.Difference != nil {
		v.cfg.Difference(d)
	}
	return nil
}

// String says what differs, and what was done about it.
func (d Difference) String() string {
	var what []string
	if d.Missing > 0 {
		what = append(what, fmt.Sprintf("%s %s missing", plural.Of(d.Missing, "turn"), plural.Are(d.Missing)))
	}
	if d.Stale > 0 {
		what = append(what, fmt.Sprintf("%s %s out of date", plural.Of(d.Stale, "turn"), plural.Are(d.Stale)))
	}
	if d.Cache != "" {
		what = append(what, "cache: "+d.Cache)
	}
	if d.Error != "" {
		what = append(what, d.Error)
	}
	if d.Mended != nil {
		what = append(what, d.Mended.String())
	}
	return strings.Join(what, "; ")
}

// String says what was done, and names what is lost.
func (m *Mended) String() string {
	var what []string
	if m.Merged > 0 {
		what = append(what, fmt.Sprintf("merged %s from the stream", plural.Of(m.Merged, "turn")))
	}
	if r := m.Files; r != nil {
		what = append(what, fmt.Sprintf("set aside as %s and rebuilt with %s, %d of them from the stream", strings.Join(r.SetAside, " and "), plural.Of(r.Turns, "turn"), r.Restored))
		if len(r.Unverified) > 0 {
			what = append(what, fmt.Sprintf("nothing vouches for %s read in the damaged document", plural.Of(len(r.Unverified), "turn")))
		}
		if len(r.Missing) > 0 {
			what = append(what, "lost: "+strings.Join(r.Missing, ", "))
		}
		if r.Unreadable > 0 {
			what = append(what, fmt.Sprintf("lost: %s of which nothing can be read", plural.Of(r.Unreadable, "line")))
		}
		if r.CutShort {
			what = append(what, "its end was missing, and the stream does not reach back so far")
		}
	}
	if m.Cache {
		what = append(what, "refreshed the cache")
	}
	if m.Left != "" {
		what = append(what, "still differs: "+m.Left)
	}
	return strings.Join(what, "; ")
}

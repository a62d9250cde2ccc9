package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// levelMember is what the gateway adds to a turn. It stands in for a member of
// that name that the turn may have of its own; the transcript has that.
const levelMember = "level"

// sighting is a snapshot of a turn, and how safe it is.
type sighting struct {
	snap  transcript.Snapshot
	level publisher.Level
}

// newer reports whether s tells more of the turn than o: a later snapshot, or the
// same one further on its way.
func (s *sighting) newer(o *sighting) bool {
	if s.snap.Beats(&o.snap) {
		return true
	}
	return !o.snap.Beats(&s.snap) && s.level > o.level
}

// safer reports whether s is further on its way than o, in whatever revision. A
// dead letter of one revision does not hide that another one is stored.
func (s *sighting) safer(o *sighting) bool {
	rank := [...]int{publisher.Buffered: 0, publisher.Spooled: 1, publisher.Dead: 2, publisher.Stored: 3, publisher.Written: 4}
	same := !s.snap.Beats(&o.snap) && !o.snap.Beats(&s.snap)
	if same || rank[s.level] == rank[o.level] {
		return s.newer(o)
	}
	return rank[s.level] > rank[o.level]
}

// getTurn shows a turn and its level: of the newest snapshot, or with ?rev=N of
// that revision or a newer one.
func (g *Gateway) getTurn(w http.ResponseWriter, r *http.Request, at place) error {
	query, err := parseQuery(r, "rev")
	if err != nil {
		return err
	}
	rev, err := query.integer("rev", 0, 1, transcript.RedactRev)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.LookupTimeout)
	defer cancel()
	found, err := g.look(ctx, at, rev)
	if errors.Is(err, transcript.ErrPartial) {
		return incomplete("Whether there was such a turn is not known here: the stream has removed messages, and this gateway has no transcripts that must have all of them. Ask one that has.", err)
	}
	if err != nil {
		return unavailable("Nobody who could know the turn has answered.", err)
	}
	if found == nil {
		return notFound("There is no such turn, or not in this revision.")
	}
	body, err := withLevel(found.snap.Payload(), found.level)
	if err != nil {
		return fmt.Errorf("add the level to a turn: %w", err)
	}
	return writeRaw(w, http.StatusOK, body)
}

// look finds a turn: the newest snapshot that is known, or the safest one of
// revision rev or newer when rev is not 0; nil is nowhere. Its error means that
// the turn was not found, and that not everybody has answered.
//
// What is written is the end of it, so the other sources are asked only for what
// the store does not have. A dead letter outranks the stored event it is made of.
func (g *Gateway) look(ctx context.Context, at place, rev int) (*sighting, error) {
	var best *sighting
	note := func(s transcript.Snapshot, level publisher.Level) {
		seen := sighting{s, level}
		if s.Rev >= rev && (best == nil || rev == 0 && seen.newer(best) || rev > 0 && seen.safer(best)) {
			best = &seen
		}
	}
	pending := g.cfg.Publisher.Pending(at.session)
	for i := range pending {
		if s := &pending[i]; s.ID == at.turn {
			if level, ok := g.cfg.Publisher.Level(s.SessionID, s.ID, s.Rev); ok {
				note(*s, level)
			}
		}
	}

	written, ok, trouble := g.written(ctx, at)
	read := g.cfg.Store != nil && trouble == nil // the files: what the stream has removed is in them
	if errors.Is(trouble, transcript.ErrNoTranscripts) || errors.Is(trouble, transcript.ErrPartial) && g.cfg.Stream != nil {
		trouble = nil // the stream says whether it had all
	}
	if ok && written.Rev >= rev && (rev > 0 || best == nil || !best.snap.Beats(&written)) {
		return &sighting{written, publisher.Written}, nil
	}
	for _, source := range [...]struct {
		turns Turns
		level publisher.Level
	}{{g.cfg.Dead, publisher.Dead}, {g.cfg.Stream, publisher.Stored}} {
		if source.turns == nil {
			continue
		}
		s, ok, err := source.turns.Turn(ctx, at.session, at.turn)
		if errors.Is(err, transcript.ErrPartial) && read {
			err = nil
		}
		if err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("look for a turn that is %s: %w", source.level, err))
		} else if ok {
			note(s, source.level)
		}
	}
	if best != nil {
		return best, nil
	}
	if n := g.cfg.Publisher.Away(); n > 0 {
		trouble = errors.Join(trouble, fmt.Errorf("%d accepted turns are in the spool only, this one perhaps among them", n))
	}
	return nil, trouble
}

// written looks for a turn in the store.
func (g *Gateway) written(ctx context.Context, at place) (s transcript.Snapshot, ok bool, err error) {
	if g.cfg.Store == nil {
		return s, false, nil
	}
	return g.cfg.Store.Turn(ctx, at.session, at.turn)
}

// withLevel returns a turn with its level as the last member.
func withLevel(turn []byte, level publisher.Level) ([]byte, error) {
	out := append(make([]byte, 0, len(turn)+32), '{')
	dec := jsontext.NewDecoder(bytes.NewReader(turn))
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		own := string(name) == `"`+levelMember+`"`
		if !own {
			out = append(append(out, name...), ':')
		}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		if !own {
			out = append(append(out, value...), ',')
		}
	}
	return append(out, `"`+levelMember+`":`+strconv.Quote(level.String())+`}`...), nil
}

package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
)

// newestLetters is how many dead letters are counted and listed from; older ones wait
// until these are gone.
const newestLetters = 10_000

type letterKind struct {
	Kind  consumer.ReasonKind `json:"kind"`
	Count int                 `json:"count"`
	First time.Time           `json:"first"`
	Last  time.Time           `json:"last"`
}

type letterList struct {
	Total   uint64                `json:"total"` // in the stream
	Counted int                   `json:"counted"`
	Until   uint64                `json:"until"` // the newest one that is counted
	Kinds   []letterKind          `json:"kinds"`
	Letters []consumer.DeadLetter `json:"letters"` // of the kind that was asked for, the newest first
}

// listLetters lists dead letters; nothing of what was said is in it.
func (c *Console) listLetters(w http.ResponseWriter, r *http.Request) error {
	limit, err := number(r, "limit", 100, 1, 500)
	if err != nil {
		return err
	}
	kind := r.URL.Query().Get("kind")
	if err := checkKind(kind); kind != "" && err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.cfg.LookupTimeout)
	defer cancel()
	s, err := c.cfg.JS.Stream(ctx, stream.Dead)
	if err != nil {
		return err
	}
	state := s.CachedInfo().State
	list := letterList{Total: state.Msgs, Until: state.LastSeq, Kinds: []letterKind{}, Letters: []consumer.DeadLetter{}}
	f := consumer.DeadFilter{Until: state.LastSeq}
	if state.LastSeq > newestLetters {
		f.After = state.LastSeq - newestLetters
	}
	counts := make(map[consumer.ReasonKind]*letterKind)
	var matching []consumer.DeadLetter
	err = c.letters.Each(ctx, f, func(l consumer.DeadLetter) error {
		list.Counted++
		n := counts[l.Kind]
		if n == nil {
			n = &letterKind{Kind: l.Kind, First: l.Stored}
			counts[l.Kind] = n
		}
		n.Count, n.Last = n.Count+1, l.Stored
		if kind == "" || kind == string(l.Kind) {
			matching = append(matching, l)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range consumer.ReasonKinds {
		if n := counts[k]; n != nil {
			list.Kinds = append(list.Kinds, *n)
		}
	}
	for i := len(matching) - 1; i >= 0 && len(list.Letters) < int(limit); i-- {
		list.Letters = append(list.Letters, matching[i])
	}
	if err := c.letters.Compare(ctx, list.Letters); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func checkKind(kind string) error {
	for _, k := range consumer.ReasonKinds {
		if kind == string(k) {
			return nil
		}
	}
	return newProblem(http.StatusBadRequest, "kind is one of "+joinKinds()+".")
}

func joinKinds() string {
	names := make([]string, len(consumer.ReasonKinds))
	for i, k := range consumer.ReasonKinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

type letterView struct {
	consumer.DeadLetter
	Headers [][2]string `json:"headers"`
	// Payload is as it came, with what is not UTF-8 replaced; absent unless asked for.
	Payload *string `json:"payload,omitempty"`
}

// letter shows one dead letter.
func (c *Console) letter(w http.ResponseWriter, r *http.Request) error {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil {
		return newProblem(http.StatusBadRequest, "The number of a dead letter is an integer.")
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.cfg.LookupTimeout)
	defer cancel()
	l, headers, payload, err := c.letters.Letter(ctx, seq)
	if err != nil {
		return err
	}
	view := letterView{DeadLetter: l, Headers: [][2]string{}}
	for _, name := range sortedNames(headers) {
		for _, value := range headers[name] {
			view.Headers = append(view.Headers, [2]string{name, clip(value)})
		}
	}
	if withText(r) {
		text := string(payload)
		if !utf8.ValidString(text) {
			text = strings.ToValidUTF8(text, "\uFFFD")
		}
		text = clip(text)
		view.Payload = &text
	}
	return writeJSON(w, http.StatusOK, view)
}

// choice says which dead letters a change is about: these, or those of a kind up to the
// last one that whoever asks has seen.
type choice struct {
	Seqs  []uint64 `json:"seqs"`
	Kind  string   `json:"kind"`
	Until uint64   `json:"until"`
}

func (c *Console) chosen(w http.ResponseWriter, r *http.Request) (consumer.DeadFilter, error) {
	var what choice
	if err := readJSON(w, r, &what); err != nil {
		return consumer.DeadFilter{}, err
	}
	switch byKind := what.Kind != "" || what.Until != 0; {
	case byKind == (len(what.Seqs) > 0):
		return consumer.DeadFilter{}, newProblem(http.StatusBadRequest, "Say which: seqs, or kind and until.")
	case len(what.Seqs) > 500:
		return consumer.DeadFilter{}, newProblem(http.StatusBadRequest, "seqs are at most 500.")
	case byKind && what.Until == 0:
		return consumer.DeadFilter{}, newProblem(http.StatusBadRequest, "until is missing: the last dead letter that was seen.")
	case byKind:
		if err := checkKind(what.Kind); err != nil {
			return consumer.DeadFilter{}, err
		}
	}
	return consumer.DeadFilter{Seqs: what.Seqs, Reason: what.Kind, Until: what.Until}, nil
}

type requeued struct {
	Requeued int         `json:"requeued"`
	Kept     []keptEntry `json:"kept"` // what stays, and why; the first hundred
	Back     []keptEntry `json:"back"` // what is a dead letter again, under this number, and why; the first hundred
}

type keptEntry struct {
	Seq uint64 `json:"sequence"`
	Why string `json:"why"`
}

// requeue publishes dead letters again. Those that are gone are as good as requeued.
func (c *Console) requeue(w http.ResponseWriter, r *http.Request) error {
	f, err := c.chosen(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.cfg.ChangeTimeout)
	defer cancel()
	done := requeued{Kept: []keptEntry{}, Back: []keptEntry{}}
	note := func(to *[]keptEntry, e keptEntry) {
		if len(*to) < 100 {
			*to = append(*to, e)
		}
	}
	err = c.letters.Requeue(ctx, f, consumer.RequeueConfig{Verdict: c.cfg.Verdict}, func(q consumer.Requeued) {
		switch {
		case q.Kept != nil:
			note(&done.Kept, keptEntry{q.Seq, q.Kept.Error()})
		case q.Back != nil:
			note(&done.Back, keptEntry{q.Back.Seq, q.Back.Reason})
		default:
			done.Requeued++
		}
	})
	c.cfg.Logger.Info("dead letters requeued from the console", "requeued", done.Requeued, "kept", len(done.Kept), "back", len(done.Back))
	c.figures.changed()
	if err != nil && (!errors.Is(err, consumer.ErrNoLetter) || done.Requeued+len(done.Kept)+len(done.Back) == 0) {
		return err
	}
	return writeJSON(w, http.StatusOK, done)
}

// discard removes dead letters for good.
func (c *Console) discard(w http.ResponseWriter, r *http.Request) error {
	f, err := c.chosen(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.cfg.ChangeTimeout)
	defer cancel()
	n, err := c.letters.Remove(ctx, f)
	c.cfg.Logger.Info("dead letters discarded from the console", "discarded", n)
	c.figures.changed()
	if err != nil && (!errors.Is(err, consumer.ErrNoLetter) || n == 0) {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]json.Number{"discarded": json.Number(strconv.FormatUint(n, 10))})
}

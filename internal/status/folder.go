package status

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

const (
	// surveyFor is how long counting the files may take.
	surveyFor = 2 * time.Second
	// A folder is short of space under these shares of it, or these sizes where that is less.
	spaceWarning, spaceCritical           = 0.15, 0.05
	spaceWarningBytes, spaceCriticalBytes = 10 << 30, 1 << 30
	// staleTail is the age past which nobody can be folding a tail: walks do every 10 minutes.
	staleTail = 30 * time.Minute
)

func (g *Gatherer) transcripts(ctx context.Context, r *Report, now time.Time) {
	s, err := g.folder(ctx)
	if err != nil {
		r.add(CheckFolder, "", Critical, err.Error(), "look at the disk, or give the folder with --data-dir")
		return
	}
	if s == nil {
		return
	}
	id := s.Identity()
	t := &Transcripts{Dir: s.Dir(), ID: id.ID, Layout: id.Layout, Groups: []string{}}
	if t.Space, err = s.Space(ctx); err != nil {
		r.add(CheckSpace, "", Critical, err.Error(), "look at the disk of "+t.Dir)
		return
	}
	r.spaceCheck(t)
	sctx, cancel := context.WithTimeout(ctx, min(surveyFor, g.cfg.Timeout/2))
	defer cancel()
	if t.Files, err = s.Survey(sctx); err != nil {
		r.add(CheckFolder, "", Critical, err.Error(), "look at the disk of "+t.Dir)
		return
	}
	r.fileChecks(t, now)
	lacks, err := s.Unread(sctx)
	switch {
	case err != nil:
		r.add(CheckFolder, "", Critical, err.Error(), "look at the disk of "+t.Dir)
	case lacks != nil:
		t.Unread = lacks.Messages
		r.add(CheckComplete, t.Dir, Warning, plural.Of(lacks.Messages, "message")+" "+plural.Were(lacks.Messages)+" gone from the stream before this folder could have them: what is read from it may lack turns",
			"copy the older transcripts here, or accept that they are lost; then remove "+filepath.Join(t.Dir, string(transcript.NoteUnread)))
	}
	r.Transcripts = t
}

// folder opens the transcripts, once. An opening that has not ended is waited for
// again at the next look: a disk that hangs holds one goroutine.
func (g *Gatherer) folder(ctx context.Context) (*transcript.Store, error) {
	if g.cfg.Open == nil {
		return nil, nil
	}
	g.mu.Lock()
	if g.store != nil {
		defer g.mu.Unlock()
		return g.store, nil
	}
	opened := g.opened
	if opened == nil {
		opened = make(chan error, 1)
		g.opened = opened
		go func() {
			s, err := g.cfg.Open()
			g.mu.Lock()
			g.store, g.opened = s, nil
			g.mu.Unlock()
			opened <- err
		}()
	}
	g.mu.Unlock()
	select {
	case err := <-opened:
		opened <- err // for whoever else waits
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.store, err
	case <-ctx.Done():
		return nil, errors.New("the disk does not answer: the transcripts folder could not be opened in time")
	}
}

func (r *Report) spaceCheck(t *Transcripts) {
	level := lack(t.Space.FreeBytes, t.Space.Bytes)
	found := fmt.Sprintf("%s free of %s", roughBytes(t.Space.FreeBytes), roughBytes(t.Space.Bytes))
	if t.Space.Inodes > 0 {
		found += fmt.Sprintf(", %.0f %% of inodes", 100*float64(t.Space.FreeInodes)/float64(t.Space.Inodes))
		if l := above(1-float64(t.Space.FreeInodes)/float64(t.Space.Inodes), 1-spaceWarning, 1-spaceCritical); l.rank() > level.rank() {
			level = l
		}
	}
	do := ""
	if level != OK {
		do = "make room on the disk of " + t.Dir + "; a full one pauses the consumer, and turns wait in the stream"
	}
	r.add(CheckSpace, t.Dir, level, found, do)
}

// lack is how bad it is that so much of a whole is free.
func lack(free, whole uint64) Level {
	switch {
	case float64(free) < min(spaceCritical*float64(whole), spaceCriticalBytes):
		return Critical
	case float64(free) < min(spaceWarning*float64(whole), spaceWarningBytes):
		return Warning
	}
	return OK
}

func (r *Report) fileChecks(t *Transcripts, now time.Time) {
	f := &t.Files
	found := plural.Of(f.Documents, "document")
	if !f.Complete {
		found = "at least " + found + "; counting the rest takes longer"
	}
	r.add(CheckFolder, t.Dir, OK, found+", folder "+t.ID[:min(8, len(t.ID))]+", "+string(t.Layout), "")
	level, found, do := OK, plural.Of(f.Tails, "session")+" with turns to fold or just folded", ""
	if f.OldestTail != nil && now.Sub(*f.OldestTail) > staleTail {
		level = Warning
		found += fmt.Sprintf(", since %s: nobody folds them (they are durable, and readable)", f.OldestTail.Format(time.RFC3339))
		do = "start a consumer on this folder; one that runs says in its log why it cannot"
	}
	r.add(CheckTails, t.Dir, level, found, do)
	if f.Corrupt > 0 {
		r.add(CheckCorrupt, t.Dir, Warning, plural.Of(f.Corrupt, "damaged file")+" set aside",
			fmt.Sprintf("afterword verify --all; then move them away: find %s -name '*.corrupt-*'", t.Dir))
	}
}

// matchFolder says which groups write into the folder of this machine.
func (r *Report) matchFolder() {
	if r.Transcripts == nil || len(r.Groups) == 0 {
		return
	}
	for _, k := range r.Groups {
		if k.Folder == r.Transcripts.ID {
			r.Transcripts.Groups = append(r.Transcripts.Groups, k.Name)
		}
	}
	if len(r.Transcripts.Groups) == 0 {
		r.add(CheckFolder, r.Transcripts.Dir, Warning, "no group writes into this folder: what is in it may be old",
			"--data-dir names another folder, --nats-url another server; or afterword consume --rebind after a lost disk")
	}
}

// Close closes the transcripts.
func (g *Gatherer) Close(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.store == nil {
		return nil
	}
	s := g.store
	g.store = nil
	return s.Close(ctx)
}

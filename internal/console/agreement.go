package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/transcript"
)

// agreement is what file, stream and Redis hold of a session, and how they differ.
type agreement struct {
	SessionID  string               `json:"session_id"`
	At         time.Time            `json:"at"`
	File       copied               `json:"file"`
	Stream     copied               `json:"stream"`
	Redis      copied               `json:"redis"`
	Compared   bool                 `json:"compared"` // false without files here
	Agrees     bool                 `json:"agrees"`
	FileOnly   int                  `json:"file_only"` // turns that the stream has dropped since, or never had
	Difference *consumer.Difference `json:"difference,omitempty"`
	Command    string               `json:"command,omitempty"` // that mends it
}

// copied is one of the three.
type copied struct {
	State    string `json:"state"` // "present", "absent", "none" (there is no such source here) or "unknown"
	Turns    int    `json:"turns"`
	Revision int64  `json:"revision"`
	Updated  string `json:"updated,omitempty"`
	Why      string `json:"why,omitempty"` // of "unknown"
}

func copyOf(ctx context.Context, view *transcript.View, err error) copied {
	switch {
	case errors.Is(err, transcript.ErrNoSession), errors.Is(err, transcript.ErrPartial): // what is held is compared, not what was
		return copied{State: "absent"}
	case err != nil:
		return copied{State: "unknown", Why: err.Error()}
	}
	defer view.Close()
	c := copied{State: "present", Turns: view.Len(), Revision: view.Revision()}
	if err := view.Each(ctx, view.Len()-1, view.Len(), func(_ int, s *transcript.Snapshot) error {
		c.Updated = s.Timestamp.String()
		return nil
	}); err != nil {
		return copied{State: "unknown", Why: err.Error()}
	}
	return c
}

// agreement compares what is stored of one session, as `afterword verify` does.
func (c *Console) agreement(w http.ResponseWriter, r *http.Request) error {
	session, err := sessionOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.cfg.LookupTimeout)
	defer cancel()
	a := agreement{SessionID: session, At: time.Now().UTC(), File: copied{State: "none"}, Redis: copied{State: "none"}}
	view, err := c.stream.View(ctx, session)
	a.Stream = copyOf(ctx, view, err)
	if c.cfg.Cache != nil {
		rec, hit, err := c.cfg.Cache.Recent(ctx, session)
		switch {
		case err != nil:
			a.Redis = copied{State: "unknown", Why: err.Error()}
		case !hit:
			a.Redis = copied{State: "absent"}
		default:
			a.Redis = copied{State: "present", Turns: len(rec.Turns), Revision: rec.Version.Revision, Updated: rec.Version.LastTimestamp.String()}
		}
	}
	store := c.cfg.Store()
	if store == nil {
		return writeJSON(w, http.StatusOK, a)
	}
	view, err = store.View(ctx, session)
	a.File = copyOf(ctx, view, err)
	cfg := consumer.VerifyConfig{
		JS: c.cfg.JS, Store: store, Scratch: c.cfg.Scratch, Session: session, Logger: c.cfg.Logger,
		Settle:     -1, // what is on its way is a difference for now: the page says so
		Difference: func(d consumer.Difference) { a.Difference = &d },
	}
	if c.cfg.Cache != nil {
		cfg.Cache = c.cfg.Cache
	}
	res, err := consumer.Verify(ctx, cfg)
	if err != nil {
		return fmt.Errorf("compare the copies of a session: %w", err)
	}
	a.Compared, a.Agrees, a.FileOnly = true, res.Right(), res.FileOnly
	if !a.Agrees {
		a.Command = "afterword verify --repair --session " + quote(session)
	}
	return writeJSON(w, http.StatusOK, a)
}

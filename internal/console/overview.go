package console

import (
	"math"
	"net/http"
	"time"
)

type overview struct {
	Now      time.Time  `json:"now"`
	Version  string     `json:"version"`
	ReadOnly bool       `json:"read_only"`
	Replays  bool       `json:"can_replay"`
	Files    bool       `json:"has_files"`
	Stale    string     `json:"stale,omitempty"`   // why the state is not of now
	Checked  *time.Time `json:"checked,omitempty"` // when troubles were looked for
	Troubles []trouble  `json:"troubles"`
	State    *state     `json:"state"` // null while nothing is known
	Samples  []sample   `json:"samples"`
}

// overview shows the last figures. It asks nobody.
func (c *Console) overview(w http.ResponseWriter, r *http.Request) error {
	since, err := number(r, "since", 0, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	k := c.figures.get(since)
	o := overview{
		Now: time.Now().UTC(), Version: c.cfg.Version, ReadOnly: c.cfg.ReadOnly,
		Replays: c.cfg.Writable != nil && !c.cfg.ReadOnly, Files: c.cfg.Store() != nil,
		Troubles: troubles(&k), State: k.state, Samples: k.samples,
	}
	if !k.report.Time.IsZero() {
		o.Checked = &k.report.Time
	}
	if k.err != nil {
		o.Stale = k.err.Error()
	}
	return writeJSON(w, http.StatusOK, o)
}

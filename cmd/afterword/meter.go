package main

import (
	"os"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"golang.org/x/term"
)

// meter shows on a terminal how far a long command has come, with rate and ETA.
// Anywhere else it shows nothing. A nil meter is one that shows nothing.
type meter struct {
	w       progress.Writer
	tracker *progress.Tracker
	once    sync.Once
	ended   chan struct{}
}

// meter starts a meter of total bytes; 0 means that nobody knows how many.
func (c *cli) meter(what string, total int64) *meter {
	return c.newMeter(what, total, progress.UnitsBytes)
}

func (c *cli) newMeter(what string, total int64, units progress.Units) *meter {
	f, ok := c.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	m := &meter{w: progress.NewWriter(), ended: make(chan struct{})}
	m.w.SetOutputWriter(f)
	m.w.SetUpdateFrequency(200 * time.Millisecond)
	m.w.SetTrackerPosition(progress.PositionRight)
	m.w.SetTrackerLength(20)
	v := &m.w.Style().Visibility
	v.ETA, v.Percentage, v.Speed, v.Time, v.Value = true, true, true, true, true
	v.TrackerOverall, v.ETAOverall, v.SpeedOverall = false, false, false
	m.tracker = &progress.Tracker{Message: what, Total: total, Units: units, AutoStopDisabled: true, RemoveOnCompletion: true}
	m.w.AppendTracker(m.tracker)
	go func() {
		defer close(m.ended)
		m.w.Render()
	}()
	return m
}

// set says how far it is.
func (m *meter) set(done int64, message string) {
	if m == nil {
		return
	}
	m.tracker.SetValue(done)
	m.tracker.UpdateMessage(message)
}

// of says that done of total things are done.
func (m *meter) of(done, total uint64, message string) {
	if m == nil {
		return
	}
	m.tracker.UpdateTotal(int64(total))
	m.set(int64(done), message)
}

// stop ends the meter and leaves its place empty. Only the first call does anything.
func (m *meter) stop() {
	if m == nil {
		return
	}
	m.once.Do(func() {
		m.tracker.MarkAsDone()
		m.w.Stop()
		<-m.ended
	})
}

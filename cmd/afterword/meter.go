package main

import (
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"

	"github.com/afterword-io/afterword/internal/terminal"
)

// meter shows on a terminal how far a long command has come, with rate and ETA.
// A nil meter shows nothing.
type meter struct {
	w       progress.Writer
	tracker *progress.Tracker
	once    sync.Once
	ended   chan struct{}
}

// meter starts a meter that counts what, nil when nobody is looking.
func (c *cli) meter(what string) *meter {
	f := terminal.File(c.stderr)
	if f == nil {
		return nil
	}
	m := &meter{w: progress.NewWriter(), ended: make(chan struct{})}
	m.w.SetOutputWriter(f)
	m.w.SetUpdateFrequency(200 * time.Millisecond)
	m.w.SetTrackerPosition(progress.PositionRight)
	m.w.SetTrackerLength(20)
	m.w.Style().Visibility = progress.StyleVisibility{
		ETA: true, Percentage: true, Speed: true, Time: true, Tracker: true, Value: true,
	}
	m.tracker = &progress.Tracker{Message: what, AutoStopDisabled: true, RemoveOnCompletion: true}
	m.w.AppendTracker(m.tracker)
	go func() {
		defer close(m.ended)
		m.w.Render()
	}()
	return m
}

// set says that done of total things are done; a total of 0 is not known.
func (m *meter) set(done, total uint64) {
	if m == nil {
		return
	}
	m.tracker.UpdateTotal(int64(total))
	m.tracker.SetValue(int64(done))
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

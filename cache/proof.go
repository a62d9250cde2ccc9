package cache

import (
	"context"
	"errors"

	"github.com/afterword-io/afterword/transcript"
)

// newestReader tells the newest event of a session in the stream, which need not be a turn that is
// answered. [transcript.ErrNoSession] says that the stream has none.
type newestReader interface {
	Newest(ctx context.Context, session string) (transcript.Snapshot, error)
}

// proven reports whether what Redis holds of a session is not an old entry that was put back. What this process
// knows of the session is compared by [Redis.Recent]; where it knows nothing, the entry has to show the newest
// event of the stream. That is one request, for the first history of a session. An error says that the stream did not answer.
func (h *History) proven(ctx context.Context, session string, rec *transcript.Recent, known bool) (bool, error) {
	if known || h.newest == nil {
		return true, nil
	}
	newest, err := bounded(ctx, min(h.cfg.Redis.cfg.OpTimeout, h.cfg.StreamTimeout), func(ctx context.Context) (transcript.Snapshot, error) {
		return h.newest.Newest(ctx, session)
	})
	if errors.Is(err, transcript.ErrNoSession) { // nothing there is newer
		return true, nil
	}
	return err == nil && shows(rec, &newest), err
}

// shows reports whether a history can only be from after an event. Of a turn that is not answered it is known
// when it is the last of the transcript and the event its first.
func shows(rec *transcript.Recent, event *transcript.Snapshot) bool {
	for i := range rec.Turns {
		if rec.Turns[i].ID == event.ID {
			return rec.Turns[i].Rev >= event.Rev
		}
	}
	v := rec.Version
	return !event.Answered() && event.Rev == 1 && v.LastID == event.ID && v.LastTimestamp == event.Timestamp
}

// showsAll reports whether a history has all turns of another, or newer revisions.
func showsAll(rec *transcript.Recent, turns []transcript.Snapshot) bool {
	for i := range turns {
		if !shows(rec, &turns[i]) {
			return false
		}
	}
	return true
}

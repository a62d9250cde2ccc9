package main

import (
	"github.com/afterword-io/afterword/internal/exchange"
	"github.com/afterword-io/afterword/transcript"
)

// fillIn gives the turn of line number what it does not bring itself, from the
// input alone, so that the same file gives the same turns each time:
//
//   - timestamp: base + the line's number in microseconds
//   - id: "line-" and the first 32 hex digits of the SHA-256 over the length of
//     the session id (8 bytes, big endian), the session id, the line's number (8
//     bytes, big endian) and the canonical payload of the turn with the id "-" and,
//     where it brings none, the timestamp 1970-01-01T00:00:00Z
//
// The id does not depend on base: a copy of the file with another modification
// time adds nothing either, because the earlier timestamp wins.
func fillIn(d *transcript.Draft, number int, base transcript.Instant) error {
	_, dated := d.Timestamp()
	if d.ID == "" {
		content := *d
		content.ID = "-"
		if !dated {
			content.SetTimestamp(0)
		}
		snap, err := content.Snapshot(maxLine)
		if err != nil {
			return err
		}
		d.ID = exchange.ContentID("line-", d.SessionID, number, snap.Payload())
	}
	if !dated {
		d.SetTimestamp(base + transcript.Instant(number))
	}
	return nil
}

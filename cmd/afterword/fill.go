package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

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
		d.ID = lineID(d.SessionID, number, snap.Payload())
	}
	if !dated {
		d.SetTimestamp(base + transcript.Instant(number))
	}
	return nil
}

func lineID(session string, number int, content []byte) string {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(session)))
	h.Write(n[:])
	h.Write([]byte(session))
	binary.BigEndian.PutUint64(n[:], uint64(number))
	h.Write(n[:])
	h.Write(content)
	return "line-" + hex.EncodeToString(h.Sum(nil)[:16])
}

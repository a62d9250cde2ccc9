// Package record reads and writes checksummed lines, the format of everything
// afterword appends to: transcript tails and spool segments.
//
// A line is the CRC-32C of its payload in 8 lower-case hex digits, a space, the
// payload and a newline. The payload is JSON, so it holds no newline of its own.
// A last line without its newline is torn: a write that a crash cut short, and
// that nobody was told of. Any other line that does not check is corruption.
package record

import (
	"bytes"
	"fmt"
	"hash/crc32"
)

// Overhead is how many bytes a line has beside its payload.
const Overhead = 8 + 1 + 1

const lowerHex = "0123456789abcdef"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the line for payload to dst.
func Append(dst, payload []byte) []byte {
	sum := crc32.Checksum(payload, castagnoli)
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, lowerHex[sum>>shift&15])
	}
	dst = append(dst, ' ')
	dst = append(dst, payload...)
	return append(dst, '\n')
}

// CorruptError is a line that is whole and wrong.
type CorruptError struct {
	Offset int    // where the line starts, from the beginning of the data
	Reason string // what does not check
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("bad line at byte %d: %s", e.Offset, e.Reason)
}

// Scan calls fn with the payload of every line of data, in order, and returns
// how many bytes whole lines take: less than len(data) when the last line is
// torn. A line that does not check is passed to bad, when bad is not nil, and
// scanning goes on; otherwise Scan stops and returns the *CorruptError. An error of fn stops it too.
// Payloads alias data.
func Scan(data []byte, fn func(payload []byte) error, bad func(*CorruptError)) (whole int, err error) {
	for whole < len(data) {
		nl := bytes.IndexByte(data[whole:], '\n')
		if nl < 0 {
			break
		}
		payload, reason := parse(data[whole : whole+nl])
		if reason != "" {
			corrupt := &CorruptError{Offset: whole, Reason: reason}
			if bad == nil {
				return whole, corrupt
			}
			bad(corrupt)
		} else if err := fn(payload); err != nil {
			return whole, err
		}
		whole += nl + 1
	}
	return whole, nil
}

func parse(line []byte) (payload []byte, reason string) {
	if len(line) < Overhead || line[8] != ' ' {
		return nil, "no checksum"
	}
	var sum uint32
	for _, c := range line[:8] {
		switch {
		case c >= '0' && c <= '9':
			sum = sum<<4 | uint32(c-'0')
		case c >= 'a' && c <= 'f':
			sum = sum<<4 | uint32(c-'a'+10)
		default:
			return nil, "no checksum"
		}
	}
	if payload = line[9:]; crc32.Checksum(payload, castagnoli) != sum {
		return nil, "checksum differs"
	}
	return payload, ""
}

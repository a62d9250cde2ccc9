package record

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// The CRC-32C of "123456789" is e3069283 (RFC 3720, B.4 and its check value).
func TestFormat(t *testing.T) {
	if got := string(Append(nil, []byte("123456789"))); got != "e3069283 123456789\n" {
		t.Errorf("line %q", got)
	}
}

// What was appended scans back; what is cut off at the end is torn, not corrupt;
// and any byte that changes is noticed.
func TestScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payloads := rapid.SliceOfN(rapid.StringMatching(`[ -~]{1,20}`), 1, 5).Draw(t, "payloads")
		var data []byte
		ends := []int{0}
		for _, p := range payloads {
			data = Append(data, []byte(p))
			ends = append(ends, len(data))
		}
		cut := rapid.IntRange(0, len(data)).Draw(t, "cut")
		lines := 0
		for lines+1 < len(ends) && ends[lines+1] <= cut {
			lines++
		}
		var got []string
		note := func(p []byte) error {
			got = append(got, string(p))
			return nil
		}
		whole, err := Scan(data[:cut], note, nil)
		if err != nil || whole != ends[lines] || len(got) != lines {
			t.Fatalf("cut at %d: %d bytes, %d lines, %v; want %d, %d", cut, whole, len(got), err, ends[lines], lines)
		}
		for i, p := range got {
			if p != payloads[i] {
				t.Fatalf("line %d is %q, want %q", i, p, payloads[i])
			}
		}
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		flipped := bytes.Clone(data)
		flipped[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		got = nil
		var bad int
		whole, err = Scan(flipped, note, func(*CorruptError) { bad++ })
		if err != nil || bad == 0 && whole == len(data) {
			t.Fatalf("a flipped bit at %d went unnoticed: %v", at, err)
		}
		_, err = Scan(flipped, note, nil)
		var corrupt *CorruptError
		if bad > 0 && !errors.As(err, &corrupt) {
			t.Fatalf("without a handler: %v", err)
		}
	})
}

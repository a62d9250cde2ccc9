package transcript

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestInstantIsWrittenAsTheLayoutSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := Instant(rapid.Int64Range(int64(minInstant)-1e15, int64(maxInstant)+1e15).Draw(t, "instant"))
		if got, want := i.String(), i.Time().Format("2006-01-02T15:04:05.000000-07:00"); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func TestParseInstant(t *testing.T) {
	for text, want := range map[string]string{
		"2026-11-24T12:00:00Z":             "2026-11-24T12:00:00.000000+00:00",
		"2026-11-24T12:00:00.5-00:00":      "2026-11-24T12:00:00.500000+00:00",
		"2026-11-24T12:00:00.1234569999Z":  "2026-11-24T12:00:00.123456+00:00",
		"2026-11-24T12:00:00+23:59":        "2026-11-23T12:01:00.000000+00:00",
		"2026-11-24T12:00:00.000000+00:00": "2026-11-24T12:00:00.000000+00:00",
		"":                                 "",
		"2026-11-24":                       "",
		"2026-11-24t12:00:00Z":             "2026-11-24T12:00:00.000000+00:00",
		"2026-11-24T12:00:00z":             "2026-11-24T12:00:00.000000+00:00",
		"2026-11-24t12:00:00.25z":          "2026-11-24T12:00:00.250000+00:00",
		"2026-11-24t12:00:00+01:00":        "2026-11-24T11:00:00.000000+00:00",
		"t":                                "",
		"z":                                "",
		"2026-11-24tz":                     "",
		"2026-11-24T12:00:00zz":            "",
		"2026-11-24TT12:00:00Z":            "",
		"2026-11-24 12:00:00Z":             "",
		"2026-11-24T1:00:00Z":              "",
		"2026-11-24T12:00:00,5Z":           "",
		"2026-11-24T12:00:00.Z":            "",
		"2026-11-24T12:00:60Z":             "",
		"2026-11-24T24:00:00Z":             "",
		"2026-11-24T12:00:00+24:00":        "",
		"2026-11-24T12:00:00-23:60":        "",
		"2026-11-24T12:00:00+7:00":         "",
		"2026-02-29T12:00:00Z":             "",
		"1969-12-31T23:59:59Z":             "",
		"2200-01-01T00:00:00Z":             "",
		"2200-01-01T00:00:00+01:00":        "2199-12-31T23:00:00.000000+00:00",
	} {
		got, err := ParseInstant(text)
		if want == "" && err == nil || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%q: %s, %v; want %q", text, got, err, want)
		}
	}
}

// A leap second is valid RFC 3339, so its refusal does not claim otherwise.
func TestLeapSecondIsRefusedByItsName(t *testing.T) {
	for text, want := range map[string]bool{
		"2016-12-31T23:59:60Z":         true,
		"2016-12-31t23:59:60.999z":     true,
		"2017-01-01T00:59:60+01:00":    true,
		"2026-11-24T12:00:61Z":         false,
		"2026-11-24T12:60:60Z":         false,
		"2026-02-30T23:59:60Z":         false,
		"2026-11-24T12:00:60":          false,
		"2026-11-24T12:00:600Z":        false,
		"2026-11-24T12:00:60.Z":        false,
		"2026-11-24T12:00:60,5Z":       false,
		"2200-11-24T12:00:60Z":         true,
		"2026-11-24T12:00:60.5+24:00":  false,
		"2026-11-24T12:00:60.5 +01:00": false,
	} {
		if _, err := ParseInstant(text); err == nil || strings.Contains(err.Error(), "leap second (:60)") != want {
			t.Errorf("%q: %v, named a leap second: want %v", text, err, want)
		}
	}
	payload := `{"session_id":"s","id":"a","timestamp":"2026-11-24T12:00:00Z","user":"u","completed_at":"2016-12-31T23:59:60Z"}`
	if _, err := Decode([]byte(payload), 0); err == nil || !strings.HasPrefix(err.Error(), "completed_at is in a leap second (:60)") {
		t.Errorf("%v", err)
	}
}

// TestEncodeAllocatesOnce keeps Publish cheap: one buffer for a plain turn.
func TestEncodeAllocatesOnce(t *testing.T) {
	turn := Turn{SessionID: "s", ID: "x", Timestamp: Instant(1).Time(), User: "what \"now\"?\n", Assistant: "this\tand that é", Model: "m"}
	n := testing.AllocsPerRun(100, func() {
		d, err := turn.Draft()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Snapshot(0); err != nil {
			t.Fatal(err)
		}
	})
	if n != 1 {
		t.Errorf("%v allocations", n)
	}
}

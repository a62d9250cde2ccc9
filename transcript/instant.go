package transcript

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Instant is a moment in microseconds since 1970-01-01 UTC, the resolution of
// everything afterword writes.
type Instant int64

const (
	minInstant Instant = 0                // 1970-01-01T00:00:00.000000+00:00
	maxInstant Instant = 7258118399999999 // 2199-12-31T23:59:59.999999+00:00

	instantLen = len("2006-01-02T15:04:05.000000+00:00")
)

// MaxAhead is how far the timestamp and completed_at of a turn may be ahead of the time at which the
// stream stores it. One turn dated years ahead would otherwise be the last of its session for good,
// and its session the one that changed last.
const MaxAhead = 24 * time.Hour

// CheckAhead reports with a [*RuleError] that a time of the turn is more than [MaxAhead] ahead of
// now: the time at which the stream stored the turn, or the clock of who takes it in.
func (d *Draft) CheckAhead(now time.Time) error { return checkAhead(d.timestamp, d.completedAt, now) }

// CheckAhead is as of [Draft.CheckAhead].
func (s *Snapshot) CheckAhead(now time.Time) error {
	return checkAhead(s.Timestamp, s.CompletedAt, now)
}

func checkAhead(timestamp, completed Instant, now time.Time) error {
	member, last := "", InstantOf(now.Add(MaxAhead))
	switch {
	case timestamp > last:
		member = "timestamp"
	case completed > last:
		member = "completed_at"
	default:
		return nil
	}
	return &RuleError{Member: member, Rule: fmt.Sprintf("is more than %d hours in the future", MaxAhead/time.Hour)}
}

var (
	errInstant = errors.New("must be an RFC 3339 time in the years 1970 to 2199")
	// errLeapSecond has a name of its own: the text is what RFC 3339 allows. No clock that
	// counts from 1970 has the second, and to move it to a neighbour would change the turn.
	errLeapSecond = errors.New("is in a leap second (:60), which cannot be stored: use :59")
)

// InstantOf truncates t to microseconds.
func InstantOf(t time.Time) Instant { return Instant(t.UnixMicro()) }

// Time returns the instant in UTC.
func (i Instant) Time() time.Time { return time.UnixMicro(int64(i)).UTC() }

// String is the canonical form: UTC, six fractional digits, "+00:00".
func (i Instant) String() string { return string(i.append(nil)) }

func (i Instant) valid() bool { return i >= minInstant && i <= maxInstant }

func (i Instant) append(dst []byte) []byte {
	const layout = "2006-01-02T15:04:05.000000+00:00"
	t := i.Time()
	if !i.valid() { // its year may have more digits, or a sign
		return t.AppendFormat(dst, "2006-01-02T15:04:05.000000-07:00")
	}
	dst = append(dst, layout...)
	b := dst[len(dst)-len(layout):]
	year, month, day := t.Date()
	hour, minute, sec := t.Clock()
	digits(b[0:4], year)
	digits(b[5:7], int(month))
	digits(b[8:10], day)
	digits(b[11:13], hour)
	digits(b[14:16], minute)
	digits(b[17:19], sec)
	digits(b[20:26], int(i%1e6))
	return dst
}

// digits writes n with as many digits as b has room for.
func digits(b []byte, n int) {
	for k := len(b) - 1; k >= 0; k-- {
		b[k] = byte('0' + n%10)
		n /= 10
	}
}

// ParseInstant reads an RFC 3339 time in the years 1970 to 2199 (in UTC); digits
// past the microsecond are cut off. A "t" or "z" in lower case is as good as one in
// upper case. A leap second is refused, in its own words.
func ParseInstant(s string) (Instant, error) {
	if i, ok := parseCanonicalInstant(s); ok {
		return i, nil
	}
	const second = len("2006-01-02T15:04:")
	b := upperMarks([]byte(s))
	leap := len(b) > second+2 && string(b[second:second+2]) == "60"
	if leap {
		b[second], b[second+1] = '5', '9' // is the rest of it a time?
	}
	var t time.Time
	if err := t.UnmarshalText(b); err != nil || !strictTime(string(b)) {
		return 0, errInstant
	}
	if leap {
		return 0, errLeapSecond
	}
	i := Instant(t.Unix()*1e6 + int64(t.Nanosecond())/1e3)
	if !i.valid() {
		return 0, errInstant
	}
	return i, nil
}

// upperMarks puts the "T" and the "Z" of a time into upper case, in place.
func upperMarks(b []byte) []byte {
	const mark = len("2006-01-02")
	if len(b) > mark && b[mark] == 't' {
		b[mark] = 'T'
	}
	if last := len(b) - 1; last > mark && b[last] == 'z' {
		b[last] = 'Z'
	}
	return b
}

// strictTime refuses what package time takes beyond RFC 3339: an hour of one digit, a comma
// before the fraction, an offset of more than 23:59 (https://go.dev/issue/54580).
func strictTime(s string) bool {
	const hourEnd, offset = len("2006-01-02T15"), len("+00:00")
	zone := s[len(s)-1:]
	if zone != "Z" {
		zone = s[len(s)-offset:]
	}
	return s[hourEnd] == ':' && !strings.Contains(s, ",") && (zone == "Z" || zone[1:3] <= "23" && zone[4:6] <= "59")
}

// parseCanonicalInstant reads the canonical form without allocating; ok is
// false for every other text.
func parseCanonicalInstant[T string | []byte](s T) (i Instant, ok bool) {
	const shape = "dddd-dd-ddTdd:dd:dd.dddddd+00:00"
	if len(s) != len(shape) {
		return 0, false
	}
	for k := range len(shape) {
		if c := s[k]; shape[k] == 'd' {
			if c < '0' || c > '9' {
				return 0, false
			}
		} else if c != shape[k] {
			return 0, false
		}
	}
	num := func(from, to int) (n int) {
		for ; from < to; from++ {
			n = 10*n + int(s[from]-'0')
		}
		return n
	}
	year, month, day := num(0, 4), time.Month(num(5, 7)), num(8, 10)
	hour, minute, sec := num(11, 13), num(14, 16), num(17, 19)
	if hour > 23 || minute > 59 || sec > 59 {
		return 0, false
	}
	t := time.Date(year, month, day, hour, minute, sec, 0, time.UTC)
	if t.Month() != month || t.Day() != day { // 30 February and its like
		return 0, false
	}
	i = Instant(t.Unix()*1e6 + int64(num(20, 26)))
	return i, i.valid()
}

package exchange

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// layouts are times that programs write and RFC 3339 does not have. Without a zone they are UTC.
var layouts = []string{"2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05"}

// milliseconds is the number from which on a time is in milliseconds: as seconds it would be in the year 5138.
const milliseconds = 1e11

const timeRule = "must be an RFC 3339 time or seconds since 1970, in the years 1970 to 2199"

// time takes the first of some members that is there, as a moment.
func (o *object) time(names ...string) (t transcript.Instant, ok bool, err error) {
	for _, name := range names {
		v := o.peek(name)
		if v == nil || string(v) == `""` || strings.Trim(string(v), `0."`) == "" { // 0 and no text say that the time is not known
			continue
		}
		t, ok := instantOf(o.take(name))
		if !ok {
			return 0, false, refuse(o.path(name), timeRule)
		}
		return t, true, nil
	}
	return 0, false, nil
}

func instantOf(v jsontext.Value) (transcript.Instant, bool) {
	text := string(v)
	if v.Kind() == '"' {
		text = unquote(v)
		if t, err := transcript.ParseInstant(text); err == nil {
			return t, true
		}
		for _, layout := range layouts {
			if t, err := time.Parse(layout, text); err == nil {
				return valid(transcript.InstantOf(t))
			}
		}
	}
	if v.Kind() != '"' && v.Kind() != '0' {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || strings.ContainsAny(text, "xX_") {
		return 0, false
	}
	if f < milliseconds {
		f *= 1e3
	}
	if f *= 1e3; f > 1e16 {
		return 0, false
	}
	return valid(transcript.Instant(math.Round(f)))
}

func valid(t transcript.Instant) (transcript.Instant, bool) {
	_, err := transcript.ParseInstant(t.String())
	return t, err == nil
}

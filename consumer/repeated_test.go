package consumer

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// Failures of one kind are two lines, however many there are: the beginning and the end.
func TestRepeatedFailuresAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var r repeated
	for range 2 {
		r.over(log, "works")
		for range 5 {
			r.again(log, "fails", "error", "no permission")
		}
		r.over(log, "works")
		r.over(log, "works")
	}
	if text := out.String(); strings.Count(text, "msg=fails") != 2 || strings.Count(text, "msg=works") != 2 || strings.Count(text, "failures=5") != 2 {
		t.Error(text)
	}
}

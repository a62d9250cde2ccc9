package consumer

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Failures of one kind are two lines, however many there are: the beginning and the end.
func TestRepeatedFailuresAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var r repeated
	refused := errors.New("no permission")
	for range 2 {
		r.over(log, "works")
		for range 5 {
			r.again(log, "fails", refused)
		}
		if r.last(time.Minute) != refused || r.last(0) != nil {
			t.Error("the last failure is forgotten too late or too soon")
		}
		r.over(log, "works")
		r.over(log, "works")
		if r.last(time.Minute) != nil {
			t.Error("a failure stays after a success")
		}
	}
	if text := out.String(); strings.Count(text, "msg=fails") != 2 || strings.Count(text, "msg=works") != 2 || strings.Count(text, "failures=5") != 2 {
		t.Error(text)
	}
}

package faults

import (
	"fmt"
	"testing"
)

// ended notes how a test was ended, and lets it go on.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper() {}
func (e *ended) Skipf(format string, args ...any) {
	e.how += "skipped: " + fmt.Sprintf(format, args...)
}
func (e *ended) Fatalf(format string, args ...any) {
	e.how += "failed: " + fmt.Sprintf(format, args...)
}

func TestLack(t *testing.T) {
	for all, want := range map[string]string{
		"":  "skipped: needs a moon",
		"1": "failed: needs a moon (AFTERWORD_TEST_ALL is set, so this is not skipped)",
	} {
		t.Setenv(All, all)
		e := &ended{TB: t}
		if Lack(e, "needs a %s", "moon"); e.how != want {
			t.Errorf("with %s=%q it is %q, want %q", All, all, e.how, want)
		}
	}
}

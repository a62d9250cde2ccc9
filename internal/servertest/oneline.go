package servertest

import (
	"strings"
	"testing"
)

// Secret is a password for tests; no error may hold it.
const Secret = "s3cr3t-p4ss"

// OneLine fails unless err is one line that holds all parts, and not [Secret].
func OneLine(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	msg := err.Error()
	if strings.Contains(msg, "\n") {
		t.Errorf("more than one line: %q", msg)
	}
	if strings.Contains(msg, Secret) {
		t.Errorf("the secret is in %q", msg)
	}
	for _, p := range parts {
		if !strings.Contains(msg, p) {
			t.Errorf("%q lacks %q", msg, p)
		}
	}
}

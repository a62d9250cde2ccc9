package consumer

import (
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
)

// Who calls says what was under way; an error that went through both says it once more.
func TestErrorsDoNotNameTheCommand(t *testing.T) {
	f := &fixture{t: t, nats: servertest.NATS(t)} // without streams
	f.js = f.connect()
	store := f.store(t.TempDir())
	_, replay := Replay(t.Context(), ReplayConfig{JS: f.js, Store: store})
	_, verify := Verify(t.Context(), VerifyConfig{JS: f.js, Store: store, Scratch: t.TempDir()})
	for _, err := range []error{replay, verify} {
		if err == nil || strings.Contains(err.Error(), "replay: ") || strings.Contains(err.Error(), "verify: ") {
			t.Errorf("%v", err)
		}
	}
}

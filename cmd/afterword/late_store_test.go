package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// A folder that is there and cannot be opened is an error, not a machine without transcripts.
func TestTranscriptsThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	l := &lateStore{cfg: transcript.Config{Dir: dir, ReadOnly: true, FileTimeout: time.Minute}, log: slog.New(slog.DiscardHandler)}
	if _, err := l.View(t.Context(), "s"); !errors.Is(err, transcript.ErrNoTranscripts) {
		t.Fatalf("without a folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, identityFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.looked = time.Time{} // it is time to look again
	if _, err := l.View(t.Context(), "s"); err == nil || errors.Is(err, transcript.ErrNoTranscripts) {
		t.Fatalf("with a damaged one: %v", err)
	}
	l.failed, l.under, l.began = nil, make(chan struct{}), time.Now().Add(-time.Hour) // a disk that hangs
	if _, err := l.View(t.Context(), "s"); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Fatalf("with a disk that hangs: %v", err)
	}
}

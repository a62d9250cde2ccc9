package transcript

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What makes a folder one of transcripts is read strictly, and its errors show no types of Go.
func TestIdentityErrors(t *testing.T) {
	for content, want := range map[string]string{`{"id":7}`: "wrong type", `{"id":`: "ends too early", `[]`: "wrong type", `{}`: "makes no sense"} {
		dir := filepath.Join(t.TempDir(), "transcripts")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, identityFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Config{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: %v", content, err)
		}
	}
}

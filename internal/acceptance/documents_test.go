package acceptance

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
)

// document is what any program can read.
type document struct {
	raw          []byte
	SessionID    string `json:"session_id"`
	CreatedAt    string `json:"created_at"`
	Messages     []turn `json:"messages"`
	UpdatedAt    string `json:"updated_at"`
	MessageCount int    `json:"message_count"`
	Afterword    struct {
		Schema, Revision int
		SHA256           string
	} `json:"afterword"`
}

// olderDocument is all that programs of the older system know.
type olderDocument struct {
	SessionID string `json:"session_id"`
	CreatedAt string `json:"created_at"`
	Messages  []struct {
		Timestamp string `json:"timestamp"`
		User      string `json:"user"`
		Assistant string `json:"assistant"`
	} `json:"messages"`
	UpdatedAt    string `json:"updated_at"`
	MessageCount int    `json:"message_count"`
}

// readDocument opens a document and checks all that can be checked in it alone.
func readDocument(path string) (*document, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseDocument(raw)
}

func parseDocument(raw []byte) (*document, error) {
	d := &document{raw: raw}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, fmt.Errorf("torn: %w", err)
	}
	var older olderDocument
	if err := json.Unmarshal(raw, &older); err != nil {
		return nil, fmt.Errorf("torn, for the older reader: %w", err)
	}
	at := bytes.LastIndex(raw, []byte(`,"afterword":`))
	sum := ""
	if at >= 0 {
		sum = fmt.Sprintf("%x", sha256.Sum256(raw[:at]))
	}
	n, revision := len(d.Messages), 0
	for i, m := range d.Messages {
		revision += m.Rev
		if i > 0 && m.Timestamp+" "+m.ID <= d.Messages[i-1].Timestamp+" "+d.Messages[i-1].ID {
			return nil, fmt.Errorf("message %d is out of order", i)
		}
	}
	switch {
	case n == 0 || n != d.MessageCount || n != len(older.Messages) || n != older.MessageCount:
		return nil, fmt.Errorf("%d messages, message_count %d", n, d.MessageCount)
	case sum != d.Afterword.SHA256:
		return nil, fmt.Errorf("sha256 is %s, says %s", sum, d.Afterword.SHA256)
	case revision != d.Afterword.Revision:
		return nil, fmt.Errorf("revision is %d, says %d", revision, d.Afterword.Revision)
	case d.CreatedAt != d.Messages[0].Timestamp || d.UpdatedAt < d.Messages[n-1].Timestamp:
		return nil, fmt.Errorf("from %s to %s, says %s to %s", d.Messages[0].Timestamp, d.Messages[n-1].Timestamp, d.CreatedAt, d.UpdatedAt)
	}
	return d, nil
}

// transcripts is the folder under a data folder.
func transcripts(dataDir string) string { return filepath.Join(dataDir, "transcripts") }

// documentPath is where the document of a session is.
func documentPath(dataDir, session string) string {
	name := token(session)
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(transcripts(dataDir), fmt.Sprintf("%x", sum[:1]), name+".json")
}

// token is the name of a session in paths.
func token(session string) string {
	var b strings.Builder
	for _, c := range []byte(session) {
		if c == '-' || c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	if b.Len() <= 160 {
		return b.String()
	}
	return fmt.Sprintf("%s=~%x", b.String()[:64], sha256.Sum256([]byte(session)))
}

// files are all files of a transcripts folder, sorted, without the folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := listFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func listFiles(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && path != dir { // a temporary file, renamed meanwhile
				return nil
			}
			return err
		}
		if !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// isDocument says so by the name alone.
func isDocument(name string) bool {
	return strings.HasSuffix(name, ".json") && !strings.HasPrefix(filepath.Base(name), ".")
}

// allDocuments returns the bytes of every document, by name.
func allDocuments(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, name := range files(t, dir) {
		if isDocument(name) {
			all[name] = readFile(t, filepath.Join(dir, name))
		}
	}
	return all
}

// sameDocuments compares two folders, byte for byte.
func sameDocuments(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	differ := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			if differ++; differ == 1 {
				t.Errorf("%s: %s differs:\n%s", what, name, firstDifference(got[name], want[name]))
			}
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s should not be there", what, name)
		}
	}
	if differ > 0 {
		t.Errorf("%s: %d of %d documents differ", what, differ, len(want))
	}
}

func firstDifference(got, want string) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	cut := func(s string) string { return s[min(len(s), max(0, i-80)):min(len(s), i+120)] }
	return fmt.Sprintf("got  %d bytes …%q…\nwant %d bytes …%q…", len(got), cut(got), len(want), cut(want))
}

// wantDocuments waits until the document of every session is what the renderer makes.
func wantDocuments(t *testing.T, within time.Duration, dataDir string, want sessions) time.Duration {
	t.Helper()
	left := make(map[string]string, len(want))
	for session, turns := range want {
		left[session] = string(render(session, turns))
	}
	return eventually(t, within, "documents are as they should be", func() error {
		var first error
		for session, text := range left {
			got, err := os.ReadFile(documentPath(dataDir, session))
			if string(got) == text {
				delete(left, session)
			} else if first == nil {
				first = fmt.Errorf("session %s: %v\n%s", session, err, firstDifference(string(got), text))
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%d of %d are not; %w", len(left), len(want), first)
		}
		return nil
	})
}

// wantNothingElse checks that there are documents of exactly these sessions, and
// nothing that a crash left behind.
func wantNothingElse(t *testing.T, dataDir string, want sessions) {
	t.Helper()
	documents := 0
	for _, name := range files(t, transcripts(dataDir)) {
		switch {
		case isDocument(name):
			documents++
		case strings.HasSuffix(name, ".tail"), ofFolder(name):
		default:
			t.Errorf("%s was left behind", name)
		}
	}
	if documents != len(want) {
		t.Errorf("there are %d documents, want %d", documents, len(want))
	}
}

// wantFolded waits until all tails are empty: every document holds all there is.
func wantFolded(t *testing.T, within time.Duration, dataDir string) {
	t.Helper()
	eventually(t, within, "tails are empty", func() error {
		for _, name := range files(t, transcripts(dataDir)) {
			info, err := os.Stat(filepath.Join(transcripts(dataDir), name))
			if err == nil && strings.HasSuffix(name, ".tail") && info.Size() > 0 {
				return fmt.Errorf("%s holds %d bytes", name, info.Size())
			}
		}
		return nil
	})
}

// python runs a program of python3, which must succeed.
func python(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		faults.Lack(t, "python3 is not installed")
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3 %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

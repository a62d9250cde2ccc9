// Package mutants proves that the tests of faults prove something: each mutant is
// the product with one promise taken out, and a test has to find it, by the name
// of the invariant that it breaks. There is nothing in it but tests.
package mutants

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
)

const bound = 4 * time.Minute // of one mutant, its build included

// mutant replaces a text of a source, which has to be there exactly once.
type mutant struct {
	name      string
	file      string // from the module's root
	old, new  string
	test      string // of internal/acceptance
	invariant string // that its failure names
}

var mutants = []mutant{
	{
		name: "acknowledge before the sync",
		file: "consumer/commit.go",
		old:  "	err := b.stored.Sync(ctx)\n",
		new: `	for i := range b.items {
		b.items[i].msg.Ack()
	}
	err := b.stored.Sync(ctx)
`,
		test: "TestPowerCutOfTheConsumer", invariant: "I7 power: lost",
	},
	{
		name: "no fsync of the folder",
		file: "transcript/replace.go",
		old:  "		err = s.syncFolders(dirs)\n",
		new:  "		_ = s.syncFolders\n",
		test: "TestPowerCutOfAForgetfulDisk", invariant: "I7 power: lost",
	},
	{
		name: "no dedupe",
		file: "transcript/document.go",
		old:  "		s, ok := winners[string(l.id)]\n",
		new:  "		s, ok := winners[\"\"]\n",
		test: "TestKill9OfTheStore", invariant: "I2 exactly once: duplicated",
	},
	{
		name: "acknowledge what could not be written",
		file: "consumer/commit.go",
		old:  "			trouble = err\n			p.giveBack(it)\n",
		new:  "			trouble = err\n			it.msg.Ack()\n",
		test: "TestDiskInTrouble", invariant: "I1 no loss: lost",
	},
	{
		name: "the default sync of NATS",
		file: "internal/embedded/nats.go",
		old:  "		SyncAlways:            true,",
		new:  "		SyncAlways:            false,",
		test: "TestPowerCutOfTheStream", invariant: "I7 power: lost",
	},
	{
		name: "a stale writer without the lock",
		file: "transcript/lock.go",
		old:  "		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)\n",
		new:  "		err = nil\n",
		test: "TestStaleWriter", invariant: "I6 never shrinks: shrunk",
	},
	{
		name: "a read that failed taken as empty",
		file: "transcript/read.go",
		old: `	if err != nil {
		return nil, 0, err
	}
	doc, err := ParseDocument(session, data)
`,
		new: `	if err != nil {
		return NewDocument(session), 0, nil
	}
	doc, err := ParseDocument(session, data)
`,
		test: "TestReadThatFails", invariant: "I6 never shrinks: shrunk",
	},
}

// tries are for a fault that strikes at random: it may break another invariant first,
// as when the power takes a turn that was seen and not acknowledged. Every try has to fail.
const tries = 5

// Every mutant is caught.
func TestMutantsAreCaught(t *testing.T) {
	if os.Geteuid() != 0 {
		faults.Lack(t, "mutants are caught by faults, which need root")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			began := time.Now()
			out := ""
			for range tries {
				var err error
				out, err = m.run(t, root)
				switch {
				case strings.Contains(out, "--- SKIP"):
					faults.Lack(t, "%s was skipped here:\n%s", m.test, out)
				case err == nil:
					t.Fatalf("%s lets it live:\n%s", m.test, out)
				}
				for line := range strings.Lines(out) {
					if strings.Contains(line, m.invariant) {
						t.Logf("caught by %s after %v: %s", m.test, time.Since(began).Round(time.Second), strings.TrimSpace(line))
						return
					}
				}
			}
			t.Fatalf("%s fails %d times, and never says %q:\n%s", m.test, tries, m.invariant, out[max(0, len(out)-6000):])
		})
	}
}

// run runs the test of a mutant against a copy of the source, laid over the module.
func (m *mutant) run(t *testing.T, root string) (string, error) {
	t.Helper()
	path := filepath.Join(root, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s holds the text of this mutant %d times, not once: the code has changed, so change the mutant:\n%s", m.file, n, m.old)
	}
	dir := t.TempDir()
	mutated := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "./internal/acceptance", "-run", "^"+m.test+"$", "-v", "-args", "-heal", "15s")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "AFTERWORD_TEST_OVERLAY="+overlay)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

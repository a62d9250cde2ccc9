package validate

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// kedaSchema returns what holds an object against the schema that KEDA gives Kubernetes,
// nil when it is valid. The schema is in a package of npm, which the lock file pins.
func kedaSchema(t *testing.T) func(object []byte) error {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("keda")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v: %s", err, out)
	}
	return func(object []byte) error {
		check := exec.CommandContext(t.Context(), "node", "check.js")
		check.Dir, check.Stdin = dir, bytes.NewReader(object)
		out, err := check.CombinedOutput()
		if err != nil {
			return &exec.Error{Name: strings.TrimSpace(string(out)), Err: err}
		}
		return nil
	}
}

// The scaler has the types that KEDA takes, and all that it needs; what else is wrong is found.
// Names that KEDA does not know pass its schema; those are checked where the object is read.
func TestKubernetesScalerIsOfKEDA(t *testing.T) {
	c := with(t, "base", "keda")
	if len(c.scaled) != 1 {
		t.Fatalf("%d scalers", len(c.scaled))
	}
	check, object := kedaSchema(t), c.scaled[0].object
	if err := check(object); err != nil {
		t.Error(err)
	}
	for from, to := range map[string]string{
		`"scaleTargetRef":`:  `"scaleTarget":`,
		`"minReplicaCount":`: `"minReplicaCount":1.`, // digits follow
		`"type":"nats`:       `"kind":"nats`,
		`"lagThreshold":`:    `"lagThreshold":[],"x":`,
	} {
		bad := bytes.Replace(object, []byte(from), []byte(to), 1)
		if bytes.Equal(bad, object) {
			t.Errorf("there is no %s in %s", from, object)
			continue
		}
		if check(bad) == nil {
			t.Errorf("it is valid with %s instead of %s", to, from)
		}
	}
}

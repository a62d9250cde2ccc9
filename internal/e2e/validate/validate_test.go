package validate

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	repository = "../../.."
	deploy     = repository + "/deploy"
)

// helps is what each service says of itself, by its command.
var helps = sync.OnceValues(func() (map[string]string, error) {
	dir, err := os.MkdirTemp("", "afterword-validate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "afterword")
	build := exec.Command("go", "build", "-o", program, "./cmd/afterword")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		return nil, &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	all := make(map[string]string)
	for _, command := range []string{"gateway", "consume", "serve"} {
		out, err := exec.Command(program, command, "--help").Output()
		if err != nil {
			return nil, err
		}
		all[command] = string(out)
	}
	return all, nil
})

// checkCommand holds what a container is started with against the program: the
// command, its flags and its variables.
func checkCommand(t *testing.T, where string, args []string, env []string) {
	t.Helper()
	all, err := helps()
	if err != nil {
		t.Fatal(err)
	}
	if len(args) == 0 || all[args[0]] == "" {
		t.Errorf("%s: %v is no service", where, args)
		return
	}
	help := all[args[0]]
	for _, arg := range args[1:] {
		name, _, _ := strings.Cut(arg, "=")
		if !regexp.MustCompile(`(?m)^ +` + regexp.QuoteMeta(name) + `\b`).MatchString(help) {
			t.Errorf("%s: `afterword %s` has no %s", where, args[0], name)
		}
	}
	for _, name := range env {
		if !strings.Contains(help, "[$"+name+"]") {
			t.Errorf("%s: `afterword %s` does not know %s", where, args[0], name)
		}
	}
}

// under reports whether a path is in one of the folders.
func under(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

package validate

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile is the Dockerfile as BuildKit reads it.
func dockerfile(t *testing.T) []instructions.Stage {
	t.Helper()
	f, err := os.Open(deploy + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.Warnings) > 0 {
		t.Errorf("the parser warns: %+v", parsed.Warnings)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return stages
}

// The image is the binary on nothing, run by nobody in particular.
func TestDockerfile(t *testing.T) {
	stages := dockerfile(t)
	last := stages[len(stages)-1]
	if len(stages) != 2 || last.BaseName != "scratch" {
		t.Errorf("%d stages, the last on %s", len(stages), last.BaseName)
	}
	user, entry, made := "", []string(nil), []string(nil)
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = c.CmdLine
		case *instructions.CopyCommand:
			if c.From != stages[0].Name {
				t.Errorf("%s comes from %q", c.DestPath, c.From)
			}
			if strings.Contains(c.DestPath, "/data") || strings.Contains(c.DestPath, "/spool") {
				if c.Chown == "" || c.Chown != "65532:65532" {
					t.Errorf("%s belongs to %q", c.DestPath, c.Chown)
				}
			}
			made = append(made, c.DestPath)
		}
	}
	if user != "65532:65532" || !slices.Equal(entry, []string{"/afterword"}) || !slices.Contains(made, "/afterword") {
		t.Errorf("user %q, entry point %v, with %v", user, entry, made)
	}
	for _, c := range stages[0].Commands { // what is built from is in the repository
		if c, ok := c.(*instructions.CopyCommand); ok {
			for _, path := range c.SourcePaths {
				if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// The compose file is one, and its parts fit together.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{deploy + "/compose.yaml"}, cli.WithConsistency(true), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(project.Services))
	if want := []string{"consumer", "gateway", "nats-1", "nats-2", "nats-3", "redis"}; !slices.Equal(names, want) {
		t.Fatalf("services %v, want %v", names, want)
	}
	used := make(map[string]bool)
	for _, s := range project.Services {
		for _, v := range s.Volumes {
			switch v.Type {
			case types.VolumeTypeVolume:
				used[v.Source] = true
			case types.VolumeTypeBind:
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s mounts %v", s.Name, err)
				}
			}
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s listens on %s:%s of the host; nobody is asked for credentials", s.Name, p.HostIP, p.Published)
			}
		}
	}
	for name := range project.Volumes {
		if !used[name] {
			t.Errorf("nobody uses the volume %s", name)
		}
	}
	if n := project.Services["consumer"].Deploy.Replicas; n == nil || *n != 2 {
		t.Errorf("consumers: %v", n)
	}

	var owned []string // what the image gives an owner that may write
	for _, c := range dockerfile(t)[1].Commands {
		if c, ok := c.(*instructions.CopyCommand); ok && c.Chown != "" {
			owned = append(owned, c.DestPath)
		}
	}
	for _, name := range []string{"gateway", "consumer"} {
		s := project.Services[name]
		var env []string
		for k := range s.Environment {
			env = append(env, k)
		}
		checkCommand(t, name, s.Command, env)
		if open := s.Environment["AFTERWORD_ALLOW_UNAUTHENTICATED"]; open == nil || *open != "true" {
			t.Errorf("%s listens where others may connect, and does not say that this is meant: it would not start", name)
		}
		if hosts := s.Environment["AFTERWORD_ALLOWED_HOSTS"]; hosts == nil || *hosts != name {
			t.Errorf("%s answers for %v, not for its name in this network", name, hosts)
		}
		if s.Build == nil || s.Build.Dockerfile != "deploy/Dockerfile" {
			t.Errorf("%s is built from %+v", name, s.Build)
		}
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < 25*time.Second {
			t.Errorf("%s has %v to stop", name, s.StopGracePeriod)
		}
		var mounted []string
		for _, v := range s.Volumes {
			mounted = append(mounted, v.Target)
			if !v.ReadOnly && !slices.Contains(owned, v.Target) {
				t.Errorf("%s writes %s, which belongs to root in a new volume", name, v.Target)
			}
		}
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") {
			t.Errorf("%s is not closed: read only %v, drops %v", name, s.ReadOnly, s.CapDrop)
		}
		if spool := s.Environment["AFTERWORD_SPOOL_DIR"]; spool != nil && !under(*spool, mounted) {
			t.Errorf("%s: the spool %s is on no volume of %v", name, *spool, mounted)
		}
		for _, server := range strings.Split(*s.Environment["NATS_URL"], ",") {
			host := strings.TrimSuffix(strings.TrimPrefix(server, "nats://"), ":4222")
			if _, ok := project.Services[host]; !ok {
				t.Errorf("%s connects to %s, which is no service", name, server)
			}
		}
	}
	for _, name := range []string{"nats-1", "nats-2", "nats-3"} {
		env := project.Services[name].Environment
		if env["NATS_NAME"] == nil || *env["NATS_NAME"] != name {
			t.Errorf("%s calls itself %v", name, env["NATS_NAME"])
		}
		conf, err := os.ReadFile(deploy + "/nats/cluster.conf")
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.Fields(string(conf)) {
			if v, ok := strings.CutPrefix(word, "$"); ok && env[v] == nil {
				t.Errorf("%s lacks %s, which cluster.conf asks for", name, v)
			}
		}
		mounted := false
		for _, v := range project.Services[name].Volumes {
			mounted = mounted || v.Source == name && v.Target == *env["NATS_STORE"]
		}
		if !mounted {
			t.Errorf("%s keeps its streams in %s, which is on no volume of its own", name, *env["NATS_STORE"])
		}
	}
}

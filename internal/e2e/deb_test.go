//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
)

// machine is a copy of this one, for what changes it: its file system is laid over
// ours in a mount namespace of its own, and what is changed is gone with the test.
// No systemd runs in it.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to install a package on a copy of this machine")
	}
	dir := t.TempDir()
	m := &machine{t, filepath.Join(dir, "root")}
	// A process keeps the namespace, and nothing of it is mounted anywhere else.
	script := `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 machine "$0"
mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" machine "$0/root"
mount --rbind /dev "$0/root/dev"
mount -t proc proc "$0/root/proc"
mount -t tmpfs -o mode=755 machine "$0/root/run"
echo mounted
exec sleep infinity`
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	keeper := start(t, cmd)
	keeper.says("mounted")
	m.root = filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "root", m.root)
	return m
}

// command runs on the machine.
func (m *machine) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(m.t.Context(), "chroot", append([]string{m.root, name}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "HOME=/"}
	return cmd
}

func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.command(name, args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// copy puts a file of ours on the machine.
func (m *machine) copy(from, to string) {
	m.t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.root, to), b, 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) has(path string) bool {
	_, err := os.Lstat(filepath.Join(m.root, path))
	return err == nil
}

// debs are packages of two versions of the same binary.
func debs(t *testing.T, program string) (older, newer string) {
	t.Helper()
	arch := strings.TrimSpace(run(t, ".", "dpkg", "--print-architecture"))
	dir := t.TempDir()
	for version, path := range map[string]*string{"v0.9.0": &older, "v0.10.0-3-gabcdef0": &newer} {
		*path = filepath.Join(dir, version+".deb")
		cmd := exec.Command("deploy/deb/build", program, arch, version, *path)
		cmd.Dir = repository
		cmd.Env = append(os.Environ(), "DEB_COMPRESSION=gzip")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return older, newer
}

// The package installs, its program runs as its own user on its settings, an upgrade
// keeps what was changed in them, and neither removing nor purging it takes data away.
func TestDebianPackage(t *testing.T) {
	older, newer := debs(t, afterword(t))
	// Not of the machine, which may be set up to leave documentation out.
	packed := t.TempDir()
	run(t, ".", "dpkg-deb", "-x", older, packed)
	linksLead(t, filepath.Join(packed, "usr/share/doc/afterword"))

	m := newMachine(t)
	m.copy(older, "/older.deb")
	m.copy(newer, "/newer.deb")

	if out := m.run("dpkg", "-i", "/older.deb"); !strings.Contains(out, "nothing runs yet") {
		t.Errorf("installing it does not say what to do:\n%s", out)
	}
	if out := m.run("dpkg", "-V", "afterword"); out != "" {
		t.Errorf("files are not what the package says:\n%s", out)
	}
	for path, want := range map[string]string{
		"/var/lib/afterword": "700 afterword afterword", "/etc/afterword": "750 root afterword", "/etc/afterword/afterword.env": "640 root root",
	} {
		if got := strings.TrimSpace(m.run("stat", "-c", "%a %U %G", path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if out := m.run("find", "/etc/systemd/system", "-name", "*afterword*"); out != "" {
		t.Errorf("a unit is enabled:\n%s", out)
	}
	if out := m.run("bash", "-c", "set -e; . /usr/share/bash-completion/completions/afterword; complete -p afterword"); !strings.Contains(out, "afterword") {
		t.Errorf("bash completes nothing: %s", out)
	}
	for _, page := range []string{"afterword.1.gz", "afterword-consume.1.gz"} {
		if !m.has("/usr/share/man/man1/" + page) {
			t.Errorf("there is no manual page %s", page)
		}
	}

	// What the consumer's unit does, for an instance.
	srv := servertest.NATS(t)
	unit := m.run("cat", "/usr/lib/systemd/system/afterword-consumer@.service")
	line := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(unit)
	user := regexp.MustCompile(`(?m)^User=(.*)$`).FindStringSubmatch(unit)
	if line == nil || user == nil {
		t.Fatalf("no command or user in\n%s", unit)
	}
	consume := m.command("setpriv", append([]string{"--reuid", user[1], "--regid", user[1], "--clear-groups"}, strings.Fields(line[1])...)...)
	consume.Env = append(consume.Env, "NATS_URL="+srv.URL(), "REDIS_URL=none", "AFTERWORD_LISTEN=127.0.0.1:0")
	for _, set := range regexp.MustCompile(`(?m)^Environment=(AFTERWORD_(?:GROUP|DATA_DIR)=.*)$`).FindAllStringSubmatch(unit, -1) {
		consume.Env = append(consume.Env, strings.NewReplacer("%i", "transcripts", "%S", "/var/lib").Replace(set[1]))
	}
	s := start(t, consume)
	s.says(`msg=(consuming)`)
	publish := m.command("afterword", "publish", "--nats-url", srv.URL(), "--file", "-", "--base-time", "2026-01-31T00:00:00Z")
	publish.Stdin = strings.NewReader(`{"session_id":"deb","user":"Installed?","assistant":"Yes."}` + "\n")
	if out, err := publish.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	show := []string{"session", "show", "deb", "--data-dir", "/var/lib/afterword/transcripts"}
	servertest.Eventually(t, soon, "the transcript", func() bool {
		out, err := m.command("afterword", show...).Output()
		return err == nil && strings.Contains(string(out), "Installed?")
	})
	s.stop()
	m.run("afterword-backup", "/var/lib/afterword/transcripts", "/backup")
	if out := m.run("afterword", "session", "show", "deb", "--data-dir", "/backup"); !strings.Contains(out, "Installed?") {
		t.Errorf("the backup has\n%s", out)
	}
	for _, name := range []string{"prometheus/afterword.rules.yml", "grafana/afterword.json"} {
		if !m.has("/usr/share/afterword/" + name) {
			t.Errorf("there is no /usr/share/afterword/%s", name)
		}
	}

	// An upgrade, after the settings were changed.
	settings := filepath.Join(m.root, "etc/afterword/afterword.env")
	if err := os.WriteFile(settings, []byte("NATS_URL=nats://mine:4222\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	m.run("dpkg", "-i", "/newer.deb")
	if out := m.run("dpkg-query", "-W", "-f", "${Version}", "afterword"); out != "0.10.0+3+gabcdef0" {
		t.Errorf("the version after the upgrade is %s", out)
	}
	if b, err := os.ReadFile(settings); err != nil || string(b) != "NATS_URL=nats://mine:4222\n" {
		t.Errorf("the upgrade made the settings %q, %v", b, err)
	}

	m.run("dpkg", "-r", "afterword")
	if m.has("/usr/bin/afterword") || !m.has("/etc/afterword/afterword.env") || !m.has("/var/lib/afterword/transcripts/transcripts/.afterword") {
		t.Error("removed, and the program is still there, or settings or transcripts are not")
	}
	if out := m.run("dpkg", "-P", "afterword"); !strings.Contains(out, "left alone, with every transcript and turn in it: /var/lib/afterword\n") {
		t.Errorf("purging does not say what is left:\n%s", out)
	}
	if m.has("/etc/afterword") || !m.has("/var/lib/afterword/transcripts/transcripts/.afterword") {
		t.Error("purged, and its settings are still there, or the transcripts are not")
	}
	if out := m.run("sh", "-c", "dpkg -L afterword 2>&1 || true"); !strings.Contains(out, "not installed") {
		t.Errorf("purged, and dpkg still knows it:\n%s", out)
	}
}

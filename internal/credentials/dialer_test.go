package credentials_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/afterword-io/afterword/internal/credentials"
	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
)

// nobody is a user whom nothing of a test belongs to.
const nobody = 65534

// imposter, in the environment, makes the test binary listen and say where.
const imposter = "AFTERWORD_TEST_IMPOSTER"

func TestMain(m *testing.M) {
	switch role := strings.Fields(os.Getenv(imposter)); {
	case len(role) == 3:
		os.Exit(dialAndSay(role[1], role[2]))
	case len(role) == 1:
		os.Exit(listen(role[0]))
	}
	os.Exit(m.Run())
}

// dialAndSay is how another user connects: it says which credentials it has.
func dialAndSay(dir, addr string) int {
	d := credentials.NATS([]string{dir}, servertest.StartTimeout)
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer conn.Close()
	fmt.Print("ready\n", d.Sent(), "\n")
	return 0
}

// listen takes every connection, or leaves all of them waiting, until standard input ends.
func listen(accept string) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(l.Addr())
	if accept == "accept" {
		go func() {
			for {
				if _, err := l.Accept(); err != nil {
					return
				}
				fmt.Println("accepted")
			}
		}()
	}
	bufio.NewReader(os.Stdin).ReadByte()
	return 0
}

// startImposter has another user listen on a port, or dial.
func startImposter(t *testing.T, role string) (addr string, lines *bufio.Reader) {
	t.Helper()
	if os.Geteuid() != 0 {
		faults.Lack(t, "needs root for a program of another user")
	}
	dir := t.TempDir() // the test binary is where that user may not look
	for at := dir; strings.HasPrefix(at, os.TempDir()) && at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "imposter")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Dir, cmd.Env = "/", []string{imposter + "=" + role}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	lines = bufio.NewReader(out)
	text, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text), lines
}

// own is a listener of this process.
func own(t *testing.T, addr string) string {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// dial connects with the credentials of a data folder.
func dial(t *testing.T, d *credentials.Dialer, addr string) (password string, err error) {
	t.Helper()
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_, password = d.Userinfo()
	return password, nil
}

// names sets where the file says that the NATS server listens.
func names(t *testing.T, p *credentials.Pair, addr string) {
	t.Helper()
	if err := p.NATS.Listens(addr); err != nil {
		t.Fatal(err)
	}
	if err := p.Save(); err != nil {
		t.Fatal(err)
	}
}

// Credentials go to the address that the file names, by whatever name it is reached.
func TestSentToTheServer(t *testing.T) {
	dir, p := made(t)
	d := credentials.NATS([]string{dir}, servertest.StartTimeout)
	for _, host := range []string{"127.0.0.1", "127.0.0.7", "[::1]"} {
		addr := own(t, host+":0")
		names(t, p, addr)
		if got, err := dial(t, d, addr); err != nil || got != p.NATS.Password {
			t.Errorf("%s: it is the server's own address, and the credentials are not sent: %v", host, err)
		}
	}
	addr := own(t, "127.0.0.1:0")
	names(t, p, addr)
	if got, err := dial(t, d, strings.Replace(addr, "127.0.0.1", "localhost", 1)); err != nil || got != p.NATS.Password {
		t.Errorf("localhost leads there, and the credentials are not sent: %v", err)
	}
	if got, err := dial(t, credentials.Redis([]string{dir}, servertest.StartTimeout), addr); err != nil || got != "" {
		t.Errorf("the NATS server gets the password of Redis, or %v", err)
	}
	// On every address of the machine, loopback is among them.
	_, port, err := net.SplitHostPort(own(t, ":0"))
	if err != nil {
		t.Fatal(err)
	}
	names(t, p, "127.0.0.1:"+port)
	if got, err := dial(t, d, "127.0.0.1:"+port); err != nil || got != p.NATS.Password {
		t.Errorf("the server listens everywhere, and the credentials are not sent: %v", err)
	}
}

// To every other address the connection is made without credentials.
func TestNotSentElsewhere(t *testing.T) {
	dir, p := made(t)
	here, other := own(t, "127.0.0.1:0"), own(t, "127.0.0.1:0")
	names(t, p, here)
	for what, c := range map[string]struct{ dir, addr, why string }{
		"another port":    {dir, other, "is of the server at " + here},
		"another address": {dir, own(t, "127.0.0.2:0"), "is of the server at " + here},
		"another folder":  {t.TempDir(), here, "there is no "},
	} {
		d := credentials.NATS([]string{c.dir}, servertest.StartTimeout)
		if _, err := dial(t, d, here); err != nil { // what one connection has is not the next one's
			t.Fatal(err)
		}
		if got, err := dial(t, d, c.addr); err != nil || got != "" {
			t.Errorf("%s: it gets credentials, or %v", what, err)
		}
		if got := d.Sent(); !strings.Contains(got, c.why) {
			t.Errorf("%s: it says that %q", what, got)
		}
	}
}

// Another user who has taken the port gets nothing, whether or not that program has accepted.
func TestNotSentToAnotherUser(t *testing.T) {
	for _, accept := range []string{"accept", "leave"} {
		dir, p := made(t)
		addr, lines := startImposter(t, accept)
		names(t, p, addr)
		d := credentials.NATS([]string{dir}, servertest.StartTimeout)
		got, err := dial(t, d, addr)
		servertest.OneLine(t, err, filepath.Join(dir, credentials.FileName), "were not sent", fmt.Sprintf("user %d listens at %s", nobody, addr))
		if got != "" {
			t.Errorf("%s: the credentials are sent", accept)
		}
		if accept == "accept" {
			if _, err := lines.ReadString('\n'); err != nil { // it did, so the kernel knew both sockets
				t.Error(err)
			}
		}
		// The file of a service, used by root: the service may listen.
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(p.File(), nobody, nobody); err != nil {
			t.Fatal(err)
		}
		if got, err := dial(t, d, addr); err != nil || got != p.NATS.Password {
			t.Errorf("%s: the service whose they are does not get them: %v", accept, err)
		}
	}
}

// A file that cannot be used is as good as none, and is named when it is missed: the server may be
// another one, which wants no credentials.
func TestUnusableFile(t *testing.T) {
	dir, p := made(t)
	addr := own(t, "127.0.0.1:0")
	names(t, p, addr)
	d := credentials.NATS([]string{dir}, servertest.StartTimeout)
	for why, spoil := range map[string]func() error{
		"chmod 600": func() error { return os.Chmod(p.File(), 0o644) },
		"damaged":   func() error { return os.WriteFile(p.File(), []byte("[default]\nkey=s3cret\n"), 0o600) },
	} {
		if err := errors.Join(os.Remove(p.File()), os.WriteFile(p.File(), []byte(p.String()), 0o600), spoil()); err != nil {
			t.Fatal(err)
		}
		if got, err := dial(t, d, addr); err != nil || got != "" {
			t.Errorf("%s: with such a file nobody can connect: %v", why, err)
		}
		if got := d.Sent(); !strings.Contains(got, "none were given and ") || !strings.Contains(got, p.File()) || !strings.Contains(got, why) || strings.Contains(got, "s3cret") {
			t.Errorf("%s: it says that %q", why, got)
		}
		_, err := dial(t, d, servertest.FreeAddr(t))
		servertest.OneLine(t, err, "nothing listens there, and", p.File(), why)
	}
}

// A user who may not read the file is told so, and connects without credentials.
func TestUnreadableFile(t *testing.T) {
	dir, p := made(t)
	addr := own(t, "127.0.0.1:0")
	names(t, p, addr)
	_, lines := startImposter(t, "dial "+dir+" "+addr)
	if text, err := lines.ReadString('\n'); err != nil || !strings.Contains(text, "none were given and "+p.File()+" may be read by its owner alone") {
		t.Errorf("it says %q, %v", text, err)
	}
	if text, _ := startImposter(t, "dial "+dir+" "+servertest.FreeAddr(t)); !strings.Contains(text, "nothing listens there, and "+p.File()+" may be read by its owner alone") {
		t.Errorf("it says %q", text)
	}
}

// In a volume that Kubernetes hands over with fsGroup, which gives the group what the owner has, the
// file is used; otherwise a group may not have it.
func TestFileOfAVolume(t *testing.T) {
	for mode, want := range map[os.FileMode]string{0o770 | os.ModeSetgid: "which are those in ", 0o775: "chmod 600"} {
		dir, p := made(t)
		addr := own(t, "127.0.0.1:0")
		names(t, p, addr)
		if os.Geteuid() != 0 {
			faults.Lack(t, "needs root for a program of another user")
		}
		if err := errors.Join(os.Chown(dir, 0, nobody), os.Chown(p.File(), nobody, nobody), os.Chmod(p.File(), 0o660), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		for at := filepath.Dir(dir); strings.HasPrefix(at, os.TempDir()) && at != os.TempDir(); at = filepath.Dir(at) {
			if err := os.Chmod(at, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		_, lines := startImposter(t, "dial "+dir+" "+addr)
		if text, err := lines.ReadString('\n'); err != nil || !strings.Contains(text, want) {
			t.Errorf("%v: it says %q, %v, not %q", mode, text, err, want)
		}
	}
}

package credentials_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/credentials"
	"github.com/afterword-io/afterword/internal/servertest"
)

const natsAddr, redisAddr = "127.0.0.1:4222", "[::1]:6379"

func made(t *testing.T) (dir string, p *credentials.Pair) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	p, err := credentials.Make(dir, natsAddr, redisAddr)
	if err != nil {
		t.Fatal(err)
	}
	return dir, p
}

// Passwords stay for good, whatever the addresses become, and so does what others wrote there.
func TestPasswordsStay(t *testing.T) {
	dir, first := made(t)
	if len(first.NATS.Password) < 43 || len(first.Redis.Password) < 43 || first.NATS.Password == first.Redis.Password {
		t.Fatal("the passwords are short, or one")
	}
	add, err := os.OpenFile(first.File(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(add, "AFTERWORD_GROUP=mine")
	add.Close()
	again, err := credentials.Make(dir, "127.0.0.1:1", "127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	if again.NATS != first.NATS || again.Redis != first.Redis {
		t.Fatal("a second start has others")
	}
	if err := again.NATS.Listens("127.0.0.1:5000"); err != nil {
		t.Fatal(err)
	}
	if err := again.Save(); err != nil {
		t.Fatal(err)
	}
	read, err := credentials.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if read.NATS.Password != first.NATS.Password || read.NATS.Addr.String() != "127.0.0.1:5000" || read.Redis != first.Redis {
		t.Error("a new address has changed more than that")
	}
	b, err := os.ReadFile(first.File())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "\nAFTERWORD_GROUP=mine\n") || !strings.HasPrefix(string(b), "# ") {
		t.Error("other lines are gone")
	}
	if info, err := os.Stat(first.File()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
}

// A damaged file is an error that shows nothing of it, and stays as it is.
func TestDamaged(t *testing.T) {
	const nats, redis = "NATS_URL=nats://afterword:" + servertest.Secret + "@127.0.0.1:4222\n", "REDIS_URL=redis://:" + servertest.Secret + "@127.0.0.1:6379\n"
	for text, why := range map[string]string{
		"":                    "0 lines NATS_URL",
		nats:                  "0 lines REDIS_URL",
		nats + nats + redis:   "2 lines NATS_URL",
		nats[:40] + "\n":      "NATS_URL",
		nats + "REDIS_URL=\n": "REDIS_URL is no URL",
		nats + "REDIS_URL=redis://127.0.0.1:6379\n":                               "REDIS_URL is no URL",
		nats + "REDIS_URL=redis://:@127.0.0.1:6379\n":                             "no password",
		nats + "REDIS_URL=redis://:" + servertest.Secret + "@10.0.0.1:6379\n":     "no loopback address",
		nats + "REDIS_URL=redis://:" + servertest.Secret + "@example.com:6379\n":  "no loopback address",
		redis + "NATS_URL=http://x:" + servertest.Secret + "@127.0.0.1:4222\n":    "NATS_URL is no URL",
		redis + "NATS_URL=nats://x:" + servertest.Secret + "%zz@127.0.0.1:4222\n": "NATS_URL is no URL",
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, credentials.FileName)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := credentials.Make(dir, natsAddr, redisAddr)
		servertest.OneLine(t, err, file, why, "start `afterword serve` again")
		if b, err := os.ReadFile(file); err != nil || string(b) != text {
			t.Errorf("it became %q, %v", b, err)
		}
	}
}

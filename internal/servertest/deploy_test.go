package servertest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/afterword-io/afterword/internal/servertest"
)

const deploy = "../../deploy"

// The configuration files that users are told to use are accepted by the
// servers, and say what they must.
func TestDeployNATS(t *testing.T) {
	t.Setenv("NATS_NAME", "n1")
	t.Setenv("NATS_LISTEN", "127.0.0.1:4222")
	t.Setenv("NATS_ROUTE", "127.0.0.1:6222")
	for _, v := range []string{"NATS_ROUTE_1", "NATS_ROUTE_2", "NATS_ROUTE_3"} {
		t.Setenv(v, "nats-route://127.0.0.1:622"+v[len(v)-1:])
	}
	t.Setenv("NATS_STORE", t.TempDir())
	for _, file := range []string{"nats.conf", "cluster.conf"} {
		path := filepath.Join(deploy, "nats", file)
		if out, err := exec.Command(servertest.NATSBinary(t), "-t", "-c", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", file, err, out)
			continue
		}
		opts, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if !opts.SyncAlways || !opts.JetStream || opts.MaxPayload != 1<<20 {
			t.Errorf("%s: sync always %v, JetStream %v, max_payload %d", file, opts.SyncAlways, opts.JetStream, opts.MaxPayload)
		}
		if file == "cluster.conf" && len(opts.Routes) != 3 {
			t.Errorf("%s: routes %v", file, opts.Routes)
		}
	}
}

func TestDeployRedis(t *testing.T) {
	path, err := filepath.Abs(filepath.Join(deploy, "redis", "redis.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	srv := servertest.RedisConfig(t, path)
	c := client(t, srv.Addr())
	for key, want := range map[string]string{"maxmemory-policy": "allkeys-lru", "save": "", "appendonly": "no", "maxmemory": "1073741824"} {
		got, err := c.ConfigGet(t.Context(), key).Result()
		if err != nil || got[key] != want {
			t.Errorf("%s: got %v, %v, want %q", key, got, err, want)
		}
	}
	if got := c.Ping(t.Context()).Val(); !strings.EqualFold(got, "pong") {
		t.Errorf("ping: %q", got)
	}
}

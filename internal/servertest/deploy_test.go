package servertest_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

const deploy = "../../deploy"

// The configuration files that users are told to use are accepted by the
// servers, and say what they must.
func TestDeployNATS(t *testing.T) {
	t.Setenv("NATS_NAME", "n1")
	t.Setenv("NATS_LISTEN", "127.0.0.1:4222")
	t.Setenv("NATS_HTTP", "127.0.0.1:8222")
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
		if opts.HTTPHost != "127.0.0.1" || opts.HTTPPort != 8222 {
			t.Errorf("%s: monitoring on %s:%d, which the runbook asks on 127.0.0.1:8222", file, opts.HTTPHost, opts.HTTPPort)
		}
		if file == "cluster.conf" && len(opts.Routes) != 3 {
			t.Errorf("%s: routes %v", file, opts.Routes)
		}
	}
}

// Servers start from the files, sync always is in force on each of them, and the
// streams are kept by all three nodes of a cluster.
func TestDeployNATSRuns(t *testing.T) {
	single := []*servertest.NATSNode{servertest.NATSConfig(t, filepath.Join(deploy, "nats", "nats.conf"))}
	cluster := servertest.NATSClusterConfig(t, filepath.Join(deploy, "nats", "cluster.conf"))
	for _, nodes := range [][]*servertest.NATSNode{single, cluster} {
		for _, n := range nodes {
			var jsz struct {
				Config struct {
					SyncAlways bool   `json:"sync_always"`
					StoreDir   string `json:"store_dir"`
					MaxStorage int64  `json:"max_storage"`
				}
			}
			get(t, n.Monitor()+"/jsz?config=1", &jsz)
			if c := jsz.Config; !c.SyncAlways || !strings.HasPrefix(c.StoreDir, n.Dir()) || c.MaxStorage != 50<<30 {
				t.Errorf("%d nodes, %s: %+v", len(nodes), n.Name(), c)
			}
		}
		for _, n := range nodes { // what an upgrade waits for before the next node
			servertest.Eventually(t, servertest.StartTimeout, "/healthz of "+n.Name(), func() bool {
				res, err := http.Get(n.Monitor() + "/healthz")
				if err != nil {
					return false
				}
				res.Body.Close()
				return res.StatusCode == http.StatusOK
			})
		}
		js := servertest.JetStream(t, nodes[0].URL())
		servertest.Eventually(t, servertest.StartTimeout, "streams with a copy on every node", func() bool {
			if stream.Ensure(t.Context(), js, stream.StreamConfig{Replicas: len(nodes)}) != nil {
				return false
			}
			s, err := js.Stream(t.Context(), stream.Turns)
			if err != nil {
				return false
			}
			info := s.CachedInfo()
			return info.Config.Replicas == len(nodes) && (len(nodes) == 1 || len(info.Cluster.Replicas) == len(nodes)-1)
		})
		if _, err := js.Publish(t.Context(), stream.TurnPrefix+"abc", []byte("{}")); err != nil {
			t.Errorf("%d nodes: %v", len(nodes), err)
		}
	}
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatal(err)
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

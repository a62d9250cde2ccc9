package cache

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/transcript"
)

const (
	// clusterMarks is how many keys a mark has in a Redis Cluster, spread over the slots, so that each
	// node has some of them. Fewer would miss a node with few slots that has lost what it had.
	clusterMarks = 64
	// markLonger is how much longer than the entries a mark lives.
	markLonger = time.Hour
)

//go:embed mark.lua
var markLua string

var markScript = redis.NewScript(markLua)

// mark is a number that a process writes to Redis again and again, one more each time. A Redis
// that does not have it lacks what the process wrote before: it is another server, a replica
// that is behind, or one that was restored.
type mark struct {
	process string
	keys    int
	n       int64
}

// presence says how a mark was found.
type presence int

const (
	absent  presence = iota
	foreign          // something is there that was not signed with the key of this process
	there
)

// sessions are the ids of sessions that cannot exist, under which a mark is kept.
func (m mark) sessions() []string {
	l := make([]string, m.keys)
	for i := range l {
		l[i] = "\x01mark" + strconv.Itoa(i) + "/" + m.process
	}
	return l
}

func markVersion(n int64) string {
	return formatVersion(transcript.Version{Revision: n})
}

// markKeys is how many keys a mark of this process has.
func (r *Redis) markKeys() int {
	if r.target.mode == cluster {
		return clusterMarks
	}
	return 1
}

// writeMark writes a mark. lost says that the one before is not there, as it should be; then
// the new one is not written. With before 0 it is not looked for.
func (r *Redis) writeMark(ctx context.Context, m mark, before int64) (lost bool, err error) {
	key := r.key.Load()
	if key == nil {
		return false, ErrNoKey
	}
	version, old := markVersion(m.n), ""
	if before > 0 {
		old = markVersion(before)
	}
	lost, err = do(ctx, r, r.writes, func(ctx context.Context) (lost bool, err error) {
		pipe := r.client.Pipeline()
		sessions := m.sessions()
		cmds := make([]*redis.Cmd, len(sessions))
		for i, s := range sessions {
			cmds[i] = markScript.Eval(ctx, pipe, []string{RecentKey(s)}, version, sign(*key, s, version, nil), (r.cfg.TTL + markLonger).Milliseconds(), old)
		}
		exec(ctx, pipe)
		for _, c := range cmds {
			switch written, failed := c.Int(); {
			case failed != nil:
				err = failed
			case written == 0:
				lost = true
			}
		}
		return lost, err
	})
	r.count(OpPing, err)
	return lost, wrap("write a mark to Redis", err)
}

// readMarks reports whether marks are in Redis, or newer ones of the same process.
func (r *Redis) readMarks(ctx context.Context, wanted []mark) ([]presence, error) {
	found, err := do(ctx, r, r.reads, func(ctx context.Context) ([]presence, error) { return r.findMarks(ctx, r.client, wanted) })
	r.count(OpPing, err)
	return found, err
}

// findMarks asks c, which may be a connection to one node of a Cluster: that one answers for its own keys.
func (r *Redis) findMarks(ctx context.Context, c redis.Cmdable, wanted []mark) ([]presence, error) {
	key := r.key.Load()
	if key == nil {
		return nil, ErrNoKey
	}
	pipe := c.Pipeline()
	cmds := make([][]*redis.SliceCmd, len(wanted))
	for i, m := range wanted {
		for _, s := range m.sessions() {
			cmds[i] = append(cmds[i], pipe.HMGet(ctx, RecentKey(s), fieldVersion, fieldMAC))
		}
	}
	exec(ctx, pipe)
	found := make([]presence, len(wanted))
	for i, m := range wanted {
		found[i] = there
		for n, s := range m.sessions() {
			fields, err := cmds[i][n].Result()
			switch {
			case err == nil:
				version, _ := fields[0].(string)
				mac, _ := fields[1].(string)
				switch rec, err := decodeEntry(s, version, "", mac, *key); {
				case err != nil && mac != "":
					found[i] = min(found[i], foreign)
				case err != nil, rec.Version.Revision < m.n:
					found[i] = absent
				}
			case redis.HasErrorPrefix(err, "WRONGTYPE"), errors.Is(err, errOversized): // those after it are looked for the next time
				found[i] = absent
			case m.keys > 1 && c != redis.Cmdable(r.client) && (redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK")):
			default:
				return nil, fmt.Errorf("look for marks in Redis: %w", err)
			}
		}
	}
	return found, nil
}

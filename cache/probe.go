package cache

import (
	"context"
	_ "embed"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// probeKeys is how many keys a check reads. One node of a Cluster has some of
	// the slots, so that a single key says little of it.
	probeKeys = 8
)

// What the keys of afterword match.
const (
	conversationPattern = conversationPrefix + "*"
	recentPattern       = "afterword:recent:*"
)

//go:embed probe.lua
var probeLua string

var probeScript = redis.NewScript(probeLua)

// missingError says what a Redis user may not do.
type missingError struct{ what []string }

func (e *missingError) Error() string {
	return "NOPERM the user may not use " + strings.Join(e.what, ", ")
}

// probeID is the id of a session that cannot exist, since ids have no control
// characters. The keys of some thousand of them are spread over all slots.
func probeID() string { return "\x01probe" + strconv.Itoa(rand.IntN(1<<12)) }

// Check asks Redis for all that afterword needs, on keys of its own pattern, and
// leaves nothing there. It returns nil, or a [*TroubleError] that says what Redis
// answered; while a breaker is open, what opened it, at once. What the Redis
// user may not do is named.
func (r *Redis) Check(ctx context.Context) error {
	for _, c := range [...]struct {
		b   *breaker
		ask func(context.Context) error
	}{{r.reads, r.probeRead}, {r.writes, r.probeWrite}} {
		if why := c.b.cause(); why != nil {
			return r.trouble(c.b.of, why)
		}
		_, err := do(ctx, r, c.b, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.ask(ctx) })
		r.count(OpPing, err)
		if err != nil {
			if why := c.b.cause(); why != nil { // rather than that it is open
				err = why
			}
			return r.trouble(c.b.of, err)
		}
	}
	return nil
}

// Run checks Redis every [Config.CheckEvery], so that trouble is known while nothing
// is written or read, until ctx ends.
func (r *Redis) Run(ctx context.Context) error {
	tick := time.NewTicker(r.cfg.CheckEvery)
	defer tick.Stop()
	for {
		r.checkLogin(ctx)
		r.Check(ctx) // the breakers keep, and log, what it finds
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// login makes a connection of its own: those that are there stay as they are when the credentials are changed.
func (r *Redis) login(ctx context.Context) error {
	cfg := r.cfg
	cfg.PoolSize = 1
	c := newClient(r.target, cfg, r.tls, r.embedded, func(context.Context, *redis.Conn) {})
	defer c.Close()
	return c.HMGet(ctx, RecentKey(probeID()), fieldVersion).Err()
}

// checkLogin opens the breakers when Redis does not take the credentials any more. Otherwise they would open
// and close again, by what connections happen to be in use.
func (r *Redis) checkLogin(ctx context.Context) {
	if !r.reads.up() || !r.writes.up() {
		return
	}
	_, err := bounded(ctx, r.cfg.OpTimeout, func(ctx context.Context) (struct{}, error) { return struct{}{}, r.login(ctx) })
	if !redis.IsAuthError(err) {
		return
	}
	for _, b := range [...]*breaker{r.reads, r.writes} {
		if done, no := b.allow(func(error) bool { return true }); no == nil {
			done(err)
		}
	}
}

// probeRead reads keys that do not exist. Where it may not, it names what it may not write too.
func (r *Redis) probeRead(ctx context.Context) error {
	missing, err := r.missingRead(ctx)
	if err != nil || len(missing) == 0 {
		return err
	}
	more, err := r.missingWrite(ctx)
	if err != nil {
		more = nil // the writes say it themselves
	}
	return named(append(missing, more...))
}

// probeWrite does what a refresh does.
func (r *Redis) probeWrite(ctx context.Context) error {
	missing, err := r.missingRead(ctx) // of a node that is not the one for all keys
	if err != nil {
		return err
	}
	more, err := r.missingWrite(ctx)
	if err != nil {
		return err
	}
	return named(append(missing, more...))
}

// named is the error about what is missing, each once; nil for nothing.
func named(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	var l []string
	for _, m := range missing {
		if !slices.Contains(l, m) {
			l = append(l, m)
		}
	}
	return &missingError{l}
}

func (r *Redis) missingRead(ctx context.Context) ([]string, error) {
	n := probeKeys
	if r.target.mode == cluster {
		n = 1 // the client finds the node of each key
	}
	pipe := r.client.Pipeline()
	cmds := make([]*redis.SliceCmd, n)
	for i := range cmds {
		cmds[i] = pipe.HMGet(ctx, RecentKey(probeID()), fieldVersion)
	}
	exec(ctx, pipe)
	for _, c := range cmds {
		switch err := c.Err(); {
		case err == nil:
		case redis.IsPermissionError(err) && aboutKeys(err):
			return []string{"the keys " + recentPattern}, nil
		case redis.IsPermissionError(err):
			return []string{refusedCommand(err, "HMGET")}, nil
		default:
			return nil, err
		}
	}
	return nil, nil
}

func (r *Redis) missingWrite(ctx context.Context) ([]string, error) {
	id := probeID()
	keys := []string{ConversationKey(id), RecentKey(id)}
	var missing []string
	denied := func(command string, err error) bool {
		no := redis.IsPermissionError(err) && !aboutKeys(err)
		if no {
			missing = append(missing, refusedCommand(err, command))
		}
		return no
	}
	denied("EVALSHA", probeScript.EvalSha(ctx, r.client, keys).Err())
	got, err := probeScript.Eval(ctx, r.client, keys).StringSlice()
	switch {
	case err == nil:
	case denied("EVAL", err): // what scripts do is tried without one
		denied("HGET", r.client.HGet(ctx, keys[1], fieldVersion).Err())
		if !denied("SET", r.client.Set(ctx, keys[0], "", time.Second).Err()) {
			denied("HSET", r.client.HSet(ctx, keys[0], fieldVersion, "").Err()) // on a string: nothing is written
		}
		denied("PEXPIRE", r.client.PExpire(ctx, keys[0], time.Second).Err())
	case redis.IsPermissionError(err):
		missing = append(missing, r.refusedKeys(ctx, keys)...)
	default:
		return nil, err
	}
	for i := 0; i+1 < len(got); i += 2 {
		said := got[i+1]
		if !forbidden(answer(said)) {
			return nil, answer(said)
		}
		if !slices.Contains(missing, got[i]) {
			missing = append(missing, got[i])
		}
	}
	denied("DEL", r.client.Del(ctx, keys...).Err())
	return missing, nil
}

var inNoPerm = regexp.MustCompile(`'([a-z]+)(?:\|[a-z]+)?' command`)

// refusedCommand is the command that Redis names, which may be one of those that begin a connection.
func refusedCommand(err error, asked string) string {
	if m := inNoPerm.FindStringSubmatch(err.Error()); m != nil {
		return strings.ToUpper(m[1])
	}
	return asked
}

// forbidden reports whether the user may not do what was asked, itself or in a script.
func forbidden(err error) bool {
	return redis.IsPermissionError(err) || err != nil && strings.Contains(err.Error(), "can't run this command") // as Redis before 7.2 has it
}

// aboutKeys tells a key that a user may not use from a command.
func aboutKeys(err error) bool { return strings.Contains(err.Error(), " key") }

// refusedKeys says which of the keys may not be written.
func (r *Redis) refusedKeys(ctx context.Context, keys []string) []string {
	var l []string
	for i, pattern := range [...]string{conversationPattern, recentPattern} {
		if err := probeScript.Eval(ctx, r.client, keys[i:i+1]).Err(); redis.IsPermissionError(err) {
			l = append(l, "the keys "+pattern)
		}
	}
	if len(l) == 0 {
		l = []string{"keys of afterword"}
	}
	return l
}

// answer is an error of a command in a script, as if Redis had answered with it.
type answer string

func (a answer) Error() string { return string(a) }

// RedisError makes it a [redis.Error].
func (a answer) RedisError() {}

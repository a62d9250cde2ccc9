package cache

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/credentials"
)

// maxReason bounds what is shown of an answer of Redis, in bytes.
const maxReason = 240

// TroubleError says that Redis does not do its part, why, and what to do about it.
type TroubleError struct {
	What string // "Redis does not answer", "Redis refuses writes"
	Why  string // what Redis said, its error code first; one line, nothing of what was said in a session
	Do   string
	err  error
}

// Error implements error.
func (e *TroubleError) Error() string {
	return e.What + ": " + e.Why + ": " + e.Do
}

// Unwrap returns what Redis answered, or why it did not.
func (e *TroubleError) Unwrap() error { return e.err }

// Answers reports whether Redis answered.
func (e *TroubleError) Answers() bool { return e.err == nil || refused(e.err) }

// Refused reports whether Redis answered, with an error.
func (e *TroubleError) Refused() bool { return e.err != nil && refused(e.err) }

func trouble(of string, err error) *TroubleError {
	e := &TroubleError{What: "Redis does not answer", Why: strings.TrimSuffix(reason(err), "."), Do: advice(err), err: err}
	if refused(err) {
		e.What = "Redis refuses " + of
	}
	return e
}

// trouble is [trouble], and says which credentials were refused.
func (r *Redis) trouble(of string, err error) *TroubleError {
	e := trouble(of, err)
	if closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE); closed {
		if r.target.tls {
			e.Do += "; if it asks for a client's certificate, give one that it takes with --redis-cert and --redis-key"
		} else {
			e.Do += "; if it takes TLS only, write rediss in place of redis"
		}
	}
	if !redis.IsAuthError(err) {
		return e
	}
	e.What = "Redis refused the credentials at " + r.String()
	if r.embedded != nil {
		e.Why += ", " + r.embedded.Sent()
		e.Do += ", or " + credentials.Elsewhere
	}
	return e
}

// refused reports whether Redis answered, with an error that is not about the one
// value. While it loads, it will answer soon.
func refused(err error) bool {
	var missing *missingError
	if errors.As(err, &missing) {
		return true
	}
	var reply redis.Error
	return errors.As(err, &reply) && !errors.Is(err, redis.Nil) && !redis.IsLoadingError(err)
}

// code is the first word of an error that Redis answered, as in READONLY; "" for every other error.
func code(err error) string {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return ""
	}
	word, _, _ := strings.Cut(reply.Error(), " ")
	for _, c := range word {
		if c < 'A' || c > 'Z' {
			return ""
		}
	}
	return word
}

// reason is an error for people: what Redis said, without the arguments that some
// of its answers repeat, in one bounded line without control characters.
func reason(err error) string {
	text := err.Error()
	var missing *missingError
	var reply redis.Error
	if !errors.As(err, &missing) && errors.As(err, &reply) {
		text = reply.Error()
		for _, repeats := range []string{", with args beginning with", " script: ", ", on @user_script"} {
			text, _, _ = strings.Cut(text, repeats)
		}
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// advice is what to do about an error.
func advice(err error) string {
	var missing *missingError
	switch {
	case errors.As(err, &missing):
		return "give the user what docs/operations.md lists under Redis access"
	case redis.IsAuthError(err):
		return "correct the user and password in the URL"
	}
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return "give the authority that signed its certificate with --redis-ca, or correct the host of the URL"
	case strings.Contains(err.Error(), "remote error: tls: ") && strings.Contains(err.Error(), "certificate"): // required, expired, unknown, …
		return "give a certificate that it takes with --redis-cert and --redis-key"
	case strings.Contains(err.Error(), "tls: "):
		return "write redis in place of rediss if it is without TLS"
	}
	switch code(err) {
	case "READONLY", "MASTERDOWN":
		return "this server is a replica: connect to the primary, or through sentinels with redis+sentinel"
	case "OOM":
		return "raise its maxmemory, or set maxmemory-policy allkeys-lru as deploy/redis does"
	case "NOPERM":
		return "give the user what docs/operations.md lists under Redis access"
	case "MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT", "TRYAGAIN":
		return "it belongs to a Redis Cluster: look at the state of the Cluster, and give all its nodes with redis+cluster"
	case "MISCONF":
		return "it cannot write its snapshot: look at its disk, or turn snapshots off as deploy/redis does"
	case "NOREPLICAS":
		return "it has fewer replicas than min-replicas-to-write: start them"
	case "LOADING":
		return "wait until it has loaded its data"
	case "BUSY":
		return "a script of another program blocks it: see SCRIPT KILL"
	case "ERR":
		if strings.Contains(err.Error(), "unknown command") {
			return "it does not have the command, or under another name: take rename-command out of its settings, for the commands that docs/operations.md lists under Redis access"
		}
	case "":
		return "start it, or correct its address; look at its load and its network"
	}
	return "look at its log and its settings"
}

// troubleLog writes one line when trouble begins and one when it ends, however many
// operations fail meanwhile. A Redis that does not answer is one trouble, whatever
// was asked; one that refuses reads or writes is another.
type troubleLog struct {
	log      *slog.Logger
	describe func(of string, err error) *TroubleError

	mu  sync.Mutex
	is  map[string]kind // of reads and writes
	was map[kind]*episode
}

type kind string

const (
	silent  kind = "silent"
	refuses kind = "refuses"
)

// episode is trouble that goes on.
type episode struct {
	since time.Time
	of    map[string]bool // reads, writes, or both
}

func newTroubleLog(l *slog.Logger, describe func(string, error) *TroubleError) *troubleLog {
	return &troubleLog{log: l, describe: describe, is: make(map[string]kind), was: make(map[kind]*episode)}
}

// note says how reads, or writes, are; nil is fine.
func (t *troubleLog) note(of string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		delete(t.is, of)
	case refused(err):
		t.is[of] = refuses
	default:
		t.is[of] = silent
	}
	for _, k := range [...]kind{silent, refuses} {
		is, was := t.is[reads] == k || t.is[writes] == k, t.was[k]
		switch {
		case is && was == nil:
			was = &episode{time.Now(), make(map[string]bool)}
			t.was[k] = was
			e := t.describe(of, err)
			t.log.Warn(e.What+", going on without it", "error", e.Why, "do", e.Do)
		case was != nil && !is:
			delete(t.was, k)
			say := "Redis answers again"
			if k == refuses {
				say = "Redis takes " + strings.Join(slices.Sorted(maps.Keys(was.of)), " and ") + " again"
			}
			t.log.Info(say, "after", time.Since(was.since).Round(time.Millisecond))
		}
		if is {
			for _, o := range [...]string{reads, writes} {
				if t.is[o] == k {
					was.of[o] = true
				}
			}
		}
	}
}

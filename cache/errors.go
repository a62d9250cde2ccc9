package cache

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrUnavailable says that Redis was not asked, because it has not answered
	// lately: the breaker is open, or it stalls. It comes at once.
	ErrUnavailable = errors.New("Redis is unavailable")
	// ErrCorrupt says that what Redis holds for a session is not what afterword writes.
	ErrCorrupt = errors.New("corrupt value in Redis")
)

// notDown reports whether err is about one value, and not about Redis.
func notDown(err error) bool {
	return err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrForged) || errors.Is(err, ErrOlder) || errors.Is(err, errOversized) || errors.Is(err, redis.Nil)
}

// down reports whether err says that Redis itself, and not one command, is in
// trouble: no answer, or an answer that every command would get.
func down(err error) bool {
	if notDown(err) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	switch code(err) {
	case "NOPERM", "MOVED":
		return true
	}
	return redis.IsLoadingError(err) || redis.IsClusterDownError(err) || redis.IsMasterDownError(err) ||
		redis.IsMaxClientsError(err) || redis.IsAuthError(err)
}

// unwritten reports whether err says that Redis took nothing: whatever it answers to a
// write but the version, it would answer to the next one.
func unwritten(err error) bool { return !notDown(err) }

func timedOut(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) ||
		errors.As(err, &n) && n.Timeout()
}

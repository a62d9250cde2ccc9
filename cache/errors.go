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

// down reports whether err says that Redis itself, and not one command, is in
// trouble: no answer, or an answer that every command would get.
func down(err error) bool {
	if err == nil || errors.Is(err, ErrCorrupt) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	return redis.IsLoadingError(err) || redis.IsClusterDownError(err) || redis.IsMasterDownError(err) ||
		redis.IsMaxClientsError(err) || redis.IsAuthError(err)
}

func timedOut(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) ||
		errors.As(err, &n) && n.Timeout()
}

package main

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// deniedFor is how long after NATS refused to let a consumer fetch or acknowledge that counts: it
// tries again at least that often.
const deniedFor = 20 * time.Second

// denied remembers the last permission that a consumer lacks. Requests for messages that are not
// permitted get no answer, which looks like a stream without new turns.
type denied struct{ last atomic.Pointer[denial] }

type denial struct {
	err error
	at  time.Time
}

func (d *denied) note(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	for _, subject := range []string{".CONSUMER.MSG.NEXT.", "$JS.ACK."} {
		if strings.Contains(err.Error(), subject) {
			d.last.Store(&denial{err, time.Now()})
		}
	}
}

// now is an error while the permission is missing.
func (d *denied) now() error {
	if l := d.last.Load(); l != nil && time.Since(l.at) < deniedFor {
		return fmt.Errorf("turns cannot be fetched or acknowledged: %w: give this user the permissions of its role", l.err)
	}
	return nil
}

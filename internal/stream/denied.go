package stream

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
)

// deniedError says that a request had no answer because the server let it, or the answer, not pass.
// It is an [ErrUnreachable]: a permission may be given any time, so waiting may help.
type deniedError struct{ violation string }

func (e *deniedError) Error() string {
	return "NATS does not permit it: " + e.violation + ": give this user the permissions of its role, or the --nats-inbox-prefix that it has"
}

func (e *deniedError) Is(target error) bool { return target == ErrUnreachable }

// Denied reports whether an error says that a permission is missing.
func Denied(err error) bool {
	_, ok := errors.AsType[*deniedError](err)
	return ok
}

// deniedOf returns what the server said last, if that is why a request about what op names last, or
// every request, had no answer.
func deniedOf(nc *nats.Conn, op string) string {
	err := nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return ""
	}
	violation := strings.TrimPrefix(err.Error(), nats.ErrPermissionViolation.Error()+": ")
	name := op[strings.LastIndexByte(op, ' ')+1:]
	inbox := nc.Opts.InboxPrefix
	if inbox == "" {
		inbox = nats.InboxPrefix
	}
	if !strings.Contains(violation, name) && !strings.Contains(violation, `Subscription to "`+inbox) {
		return ""
	}
	return violation
}

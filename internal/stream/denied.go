package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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

// CheckDenied returns an error that [Denied] knows while a permission is missing: the server refused a message whose
// subject contains one of these, within that time, or all answers.
func CheckDenied(nc *nats.Conn, within time.Duration, subjects ...string) error {
	if v := violation(nc, within, subjects); v != "" {
		return &deniedError{v}
	}
	return nil
}

// explainDenied is err, or what the server refused, if that is why a request about the last word of
// op had no answer.
func explainDenied(js jetstream.JetStream, op string, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
		return err
	}
	// The server refuses at once, and the request is over when its bound is.
	within := RequestTimeout(js) + deniedSlack
	if denied := CheckDenied(js.Conn(), within, op[strings.LastIndexByte(op, ' ')+1:]); denied != nil {
		return denied
	}
	return err
}

// deniedSlack is how much later than its bound a request may be over.
const deniedSlack = 2 * time.Second

// violations are what servers said of open connections; of those without any there is none.
var violations sync.Map // *nats.Conn to *violationList

// violationList has the last of each kind since the connection was made. (The connection itself
// remembers its last error alone.)
type violationList struct {
	mu  sync.Mutex
	all map[string]violated // by kind
}

type violated struct {
	text string
	at   time.Time
}

// noteViolation remembers what a server said of a connection. kind is its text without what differs in each.
func noteViolation(nc *nats.Conn, kind string, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	v, _ := violations.LoadOrStore(nc, &violationList{all: make(map[string]violated)})
	list := v.(*violationList)
	list.mu.Lock()
	defer list.mu.Unlock()
	if len(list.all) >= maxErrors {
		clear(list.all)
	}
	list.all[kind] = violated{violationText(err), time.Now()}
}

// forgetViolations is for a connection that was made again, or is closed: permissions may be others.
func forgetViolations(nc *nats.Conn) { violations.Delete(nc) }

func violationText(err error) string {
	return strings.TrimPrefix(err.Error(), nats.ErrPermissionViolation.Error()+": ")
}

// violation is the last thing that the server refused of what has one of these in its subject; "" when
// there is nothing. A subscription is refused once, and what it is for never comes.
func violation(nc *nats.Conn, within time.Duration, subjects []string) string {
	answers := fmt.Sprintf(`Subscription to "%s`, cmp.Or(nc.Opts.InboxPrefix, nats.InboxPrefix))
	about := func(text string) bool {
		return strings.Contains(text, answers) || slices.ContainsFunc(subjects, func(s string) bool { return strings.Contains(text, s) })
	}
	v, ok := violations.Load(nc)
	if !ok { // nobody heard: a program's own connection
		if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) && about(violationText(err)) {
			return violationText(err)
		}
		return ""
	}
	list := v.(*violationList)
	list.mu.Lock()
	defer list.mu.Unlock()
	var last violated
	for _, v := range list.all {
		if about(v.text) && v.at.After(last.at) && (time.Since(v.at) < within || strings.Contains(v.text, `Subscription to "`)) {
			last = v
		}
	}
	return last.text
}

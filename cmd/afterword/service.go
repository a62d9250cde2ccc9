package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

const (
	defaultListen = "127.0.0.1:8080"
	defaultDrain  = 20 * time.Second
)

// errStopped is the cause of a service that was told to stop.
var errStopped = errors.New("stopped")

// service is a running process: parts that were started one after the other and
// are stopped in the reverse order.
type service struct {
	log   *slog.Logger
	drain time.Duration
	// ctx ends when a part fails for good, with the reason.
	ctx    context.Context
	fatal  context.CancelCauseFunc
	stages []stage
}

// stage is how to stop one part. It has to be done when so many hundredths of
// the drain bound are over, so that those after it have a share.
type stage struct {
	name  string
	share int
	stop  func(ctx context.Context) error
}

func (s *service) onStop(name string, share int, stop func(ctx context.Context) error) {
	s.stages = append(s.stages, stage{name, share, stop})
}

// stop stops all parts. Its error is about turns that were lost; everything else
// that is late or fails is logged, since it costs nothing that was acknowledged.
func (s *service) stop() error {
	began := time.Now()
	var lost error
	for _, st := range slices.Backward(s.stages) {
		ctx, cancel := context.WithDeadline(context.Background(), began.Add(s.drain*time.Duration(st.share)/100))
		err := st.stop(ctx)
		cancel()
		switch {
		case err == nil:
		case allSpooled(err):
			s.log.Warn("turns are left in the spool, for the next start to publish", "error", err)
		case st.name == partPublisher:
			lost = errors.Join(lost, err)
		default:
			s.log.Warn("not stopped cleanly", "part", st.name, "error", err)
		}
	}
	return lost
}

// allSpooled reports whether all turns that a publisher left are in its spool,
// which the next start publishes.
func allSpooled(err error) bool {
	var left *publisher.LeftError
	return errors.As(err, &left) && left.Spooled >= left.Turns
}

// runService builds a service, runs it until a signal comes or a part fails for
// good, and stops it.
func (c *cli) runService(cmd *cobra.Command, o serviceOptions, build func(*builder) error) error {
	log, err := c.logger(o.logs)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return usage(cmd, err)
	}
	s := &service{log: log, drain: o.drain}
	s.ctx, s.fatal = context.WithCancelCause(cmd.Context())
	defer s.fatal(errStopped)

	if o.console.hosts != "" {
		log.Warn("--console-host is the old name of --allowed-hosts, and will go")
	}
	b := newBuilder(s, o, cmd.Name())
	if err = b.check(); err == nil {
		err = b.profile()
	}
	if err == nil {
		err = b.trace(c.env)
	}
	if err == nil {
		err = build(b)
	}
	stopping := func() {}
	if err == nil {
		var end func()
		if stopping, end, err = b.supervise(c.env); err == nil {
			defer end()
		}
	}
	if err == nil {
		<-s.ctx.Done()
		err = context.Cause(s.ctx)
	}
	signalled := interrupted(cmd.Context())
	if signalled {
		log.Info("stopping", "within", s.drain)
		stopping()
		err = nil // whatever failed, failed because it was stopped
	}
	lost := s.stop()
	if lost != nil {
		lost = failed(fmt.Errorf("%w: give it more time with --drain-timeout, or the publishers their turns to send again", lost))
	}
	if err == nil {
		if lost == nil {
			log.Info("stopped")
		}
		return serviceError{lost}.orNil()
	}
	if errors.Is(err, transcript.ErrFailed) || errors.Is(err, errServerStopped) || errors.Is(err, stream.ErrEnded) {
		err = failed(err) // a supervisor should start it anew
	}
	return serviceError{errors.Join(err, lost)}.orNil()
}

// serviceError is how a service ended: a signal is how it is meant to end, so
// its exit code does not depend on that.
type serviceError struct{ error }

func (e serviceError) Unwrap() error { return e.error }

func (e serviceError) orNil() error {
	if e.error == nil {
		return nil
	}
	return e
}

// check holds options against each other.
func (o *serviceOptions) check() error {
	if o.group != "" {
		if err := stream.CheckGroup(o.group); err != nil {
			return fmt.Errorf("--group: %w", err)
		}
	}
	if err := o.console.check(); err != nil {
		return err
	}
	if err := checkAddresses("--service", o.services); err != nil {
		return err
	}
	if o.console.hosts != "" { // the older flag
		o.http.allowedHosts += "," + o.console.hosts
	}
	if err := o.http.parseLists(); err != nil {
		return err
	}
	if o.publisher.retryMin > o.publisher.retryMax {
		return fmt.Errorf("--publish-retry-min %s is longer than --publish-retry-max %s", shortDuration(o.publisher.retryMin), shortDuration(o.publisher.retryMax))
	}
	if least := int64(2 * transcript.MaxPayload); o.spool.maxBytes != 0 && o.spool.maxBytes < least {
		return fmt.Errorf("--spool-max-bytes %s is too small: it must be at least %s, for the longest turns", formatBytes(o.spool.maxBytes), formatBytes(least))
	}
	if least := int64(transcript.MaxPayload); o.publisher.bytes != 0 && o.publisher.bytes < least {
		return fmt.Errorf("--buffer-bytes %s is too small: it must be at least %s, for the longest turns", formatBytes(o.publisher.bytes), formatBytes(least))
	}
	if least := 2*o.store.fileTimeout + 5*time.Second; o.ackWait != 0 && o.ackWait < least {
		return fmt.Errorf("--ack-wait %s is too short for --file-timeout %s: it must be at least %s", shortDuration(o.ackWait), shortDuration(o.store.fileTimeout), shortDuration(least))
	}
	return nil
}

package status

import (
	"fmt"
	"time"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/publisher"
)

const (
	// A buffer or a spool is nearly full from this share on, the same as of the alerts.
	fillWarning = 0.8
	// blockedWarning is how long nothing may get through to the stream, or to the disk of
	// the spool: retries are no news. From blockedCritical on the stream stands still.
	blockedWarning, blockedCritical = 10 * time.Second, time.Minute
	// overflowFor is how long a turn that was refused is told of.
	overflowFor = 5 * time.Minute
)

// publisher looks at the publisher of this process.
func (g *Gatherer) publisher(r *Report, now time.Time) {
	if g.cfg.Publisher == nil {
		return
	}
	s := g.cfg.Publisher()
	r.bufferCheck(&s, now)
	if s.Spool.MaxBytes > 0 {
		r.spoolCheck(&s.Spool)
	}
}

func (r *Report) bufferCheck(s *publisher.Stats, now time.Time) {
	full := max(float64(s.InMemory)/float64(max(s.MaxTurns, 1)), float64(s.Memory)/float64(max(s.MaxBytes, 1)))
	waiting := fmt.Sprintf("%s not stored yet", plural.Of(s.Turns, "accepted turn"))
	if s.Turns > 0 {
		waiting += ", the oldest for " + rough(s.Oldest)
	}
	const stuck = "afterword stream info says whether the stream is full or has no leader; look at the disks of NATS"
	switch ago := now.Sub(s.Overflowed); {
	case s.Overflows > 0 && ago < overflowFor:
		r.add(CheckPublisher, "", Critical, fmt.Sprintf("turns are refused, the last %s ago, because the buffer was full; %s", rough(ago), waiting), stuck)
	case s.Blocked >= blockedCritical:
		r.add(CheckPublisher, "", Critical, fmt.Sprintf("the stream has taken nothing for %s; %s", rough(s.Blocked), waiting), stuck)
	case full >= fillWarning:
		r.add(CheckPublisher, "", Critical, fmt.Sprintf("the buffer is %.0f%% full, and turns are refused when it is full; %s", 100*full, waiting), stuck)
	case s.Blocked >= blockedWarning:
		r.add(CheckPublisher, "", Warning, fmt.Sprintf("the stream has taken nothing for %s; %s", rough(s.Blocked), waiting), stuck)
	case s.Aside > 0:
		r.add(CheckPublisher, "", Warning, fmt.Sprintf("%s refused while others are stored: %v; %s", plural.Of(s.Aside, "turn")+plural.Verb(s.Aside, " is", " are"), s.AsideWhy, waiting),
			"the log names each with its size: raise max_payload of the servers, or max_msg_size of the stream; they are tried again until they are stored")
	case s.Oldest >= blockedCritical: // the stream takes some
		r.add(CheckPublisher, "", Warning, "the stream takes turns more slowly than they come; "+waiting, stuck)
	default:
		r.add(CheckPublisher, "", OK, waiting, "")
	}
}

func (r *Report) spoolCheck(s *publisher.SpoolStats) {
	full := float64(s.Bytes) / float64(s.MaxBytes)
	found := fmt.Sprintf("%s of %s", roughBytes(uint64(s.Bytes)), roughBytes(uint64(s.MaxBytes)))
	switch {
	case s.Blocked >= blockedWarning:
		r.add(CheckSpool, "", Warning, fmt.Sprintf("nothing can be spooled for %s, so that a kill -9 would lose turns that are not stored; %s", rough(s.Blocked), found),
			"look at the disk of --spool-dir, which is full, fails or hangs; or raise --spool-max-bytes. It goes on by itself")
	case full >= fillWarning:
		r.add(CheckSpool, "", Warning, fmt.Sprintf("%.0f%% full: %s", 100*full, found),
			"get the stream to take turns: afterword stream info; a larger --spool-max-bytes needs a restart, which loses nothing")
	default:
		r.add(CheckSpool, "", OK, found, "")
	}
}

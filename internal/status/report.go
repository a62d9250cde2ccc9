package status

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// Level is how bad something is.
type Level string

// Levels. [Critical] is for what loses turns, or will unless somebody acts, and for what
// stands still; [Warning] for what can wait for the morning.
const (
	OK       Level = "ok"
	Warning  Level = "warning"
	Critical Level = "critical"
)

func (l Level) rank() int { return slices.Index([]Level{OK, Warning, Critical}, l) }

// Names of checks.
const (
	CheckNATS      = "nats"        // somebody answers
	CheckStream    = "stream"      // it exists, with settings that lose nothing
	CheckSync      = "sync"        // when the servers sync
	CheckLimits    = "limits"      // how full a stream is
	CheckRetention = "retention"   // what is deleted before it is consumed
	CheckConsumers = "consumers"   // somebody consumes
	CheckComplete  = "complete"    // what the group could not read
	CheckLag       = "lag"         // how old is what is not written
	CheckRedeliver = "redelivered" // turns that come again and again
	CheckDead      = "dead-letters"
	CheckRedis     = "redis"
	CheckFolder    = "transcripts" // the folder of this machine
	CheckSpace     = "space"
	CheckTails     = "tails" // somebody folds
	CheckCorrupt   = "corrupt"
	CheckService   = "service"
	CheckPublisher = "publisher" // of this process
	CheckSpool     = "spool"     // its
	CheckAccess    = "access"    // nobody connects who is not meant to
)

// Check is one thing that was looked at.
type Check struct {
	Name  string `json:"name"`
	Of    string `json:"of,omitempty"` // a stream, a group, a folder or an address; absent where there is one only
	Level Level  `json:"level"`
	Found string `json:"found"`
	Do    string `json:"do,omitempty"` // absent when it is fine
}

// Report is the state of everything at one moment.
type Report struct {
	Time   time.Time `json:"time"`
	Level  Level     `json:"level"` // of the worst check
	Checks []Check   `json:"checks"`

	NATS        NATS                `json:"nats"`
	Streams     []stream.StreamInfo `json:"streams"`
	Groups      []Group             `json:"groups"`
	DeadLetters DeadLetters         `json:"dead_letters"`
	Redis       Redis               `json:"redis"`
	Transcripts *Transcripts        `json:"transcripts,omitempty"` // absent when this machine has none
}

// NATS is the server that was asked.
type NATS struct {
	URL       string  `json:"url"` // without its secrets
	Reachable bool    `json:"reachable"`
	Server    string  `json:"server,omitempty"`
	Version   string  `json:"version,omitempty"`
	RTT       float64 `json:"rtt_seconds,omitempty"`
}

// Group is a durable consumer of the turns.
type Group struct {
	stream.ConsumerInfo
	Lag        uint64  `json:"lag"`         // turns that are not acknowledged
	LagSeconds float64 `json:"lag_seconds"` // age of the oldest of them
	Consumed   bool    `json:"consumed"`    // somebody fetches
}

// DeadLetters counts what could not be processed.
type DeadLetters struct {
	Total uint64 `json:"total"`
	// Reasons counts the last 100,000 of them by kind.
	Reasons map[consumer.ReasonKind]uint64 `json:"reasons"`
}

// Redis is the cache, if there is one.
type Redis struct {
	URL       string `json:"url"` // without its secrets; "none" without a cache
	Reachable bool   `json:"reachable"`
}

// Transcripts is the folder of this machine.
type Transcripts struct {
	Dir    string            `json:"dir"`
	ID     string            `json:"id"`
	Layout transcript.Layout `json:"layout"`
	Groups []string          `json:"groups"` // that write into it
	Space  transcript.Space  `json:"space"`
	Files  transcript.Survey `json:"files"`
	Unread uint64            `json:"unread,omitempty"` // messages that were gone from the stream before it could have them
}

func (r *Report) add(name, of string, level Level, found, do string) {
	r.Checks = append(r.Checks, Check{Name: name, Of: of, Level: level, Found: found, Do: do})
}

// finish sorts the checks, the worst first, and takes the level of the worst.
func (r *Report) finish() {
	slices.SortStableFunc(r.Checks, func(a, b Check) int { return cmp.Compare(b.Level.rank(), a.Level.rank()) })
	r.Level = OK
	if len(r.Checks) > 0 {
		r.Level = r.Checks[0].Level
	}
}

// Worst names the checks of the report's level, in one line.
func (r *Report) Worst() string {
	var names []string
	for _, c := range r.Checks {
		if c.Level != r.Level {
			break
		}
		name := c.Name
		if c.Of != "" {
			name += " " + c.Of
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

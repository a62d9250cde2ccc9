package stream

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Problem is a setting of a stream, or of the durable consumer of a group, under which turns are
// refused or lost, or commands fail.
type Problem struct {
	Setting string `json:"setting"` // as the server names it
	Says    string `json:"says"`    // what it is, and what that does
	Remedy  string `json:"remedy"`  // with the command that repairs it
	// Refused says that services do not start with it: turns that are acknowledged could be lost.
	Refused bool `json:"refused"`
}

func (p Problem) String() string { return p.Says + ": " + p.Remedy }

const (
	byInit     = "run `afterword stream init`"
	byRecreate = "run `afterword stream init --recreate`"

	// leastMsgSize is the smallest max_msg_size that leaves room for turns: a dead letter with
	// its headers has to fit too.
	leastMsgSize = 2 * PayloadReserve
	// leastBytes is the smallest max_bytes that one turn of any length fits into.
	leastBytes = 2 * DefaultMaxPayload
)

// problems collects what is found.
type problems []Problem

// refused notes a setting that breaks a promise, named a setting that an operator may want.
func (p *problems) refused(is bool, setting, says, remedy string) {
	if is {
		*p = append(*p, Problem{setting, says, remedy, true})
	}
}

func (p *problems) named(is bool, setting, says, remedy string) {
	if is {
		*p = append(*p, Problem{setting, says, remedy, false})
	}
}

// problemsOf looks at the settings of a stream.
func problemsOf(have, want jetstream.StreamConfig) []Problem {
	var p problems
	turns := want.Name == Turns
	one, many, each, readers := "turn", "turns", "the turns of a session", "groups, event streams, replay and verify"
	if !turns {
		one, many, each, readers = "dead letter", "dead letters", "the dead letters of a group", "`afterword dlq` and the console"
	}
	p.refused(have.PersistMode == jetstream.AsyncPersistMode, "persist_mode", "persist_mode is async, which loses acknowledged "+many+" on kill -9", byRecreate)
	p.refused(have.Storage != jetstream.FileStorage, "storage", "storage is not file, so a restart loses it", byRecreate)
	retention := byRecreate
	if have.Retention == jetstream.InterestPolicy {
		retention = byInit
	}
	p.refused(have.Retention != jetstream.LimitsPolicy, "retention", "retention is "+strings.ToLower(have.Retention.String())+", not limits, so it cannot be replayed", retention)
	p.refused(have.Mirror != nil, "mirror", "it is a mirror, which takes no publishes", byInit)
	p.refused(have.Sealed, "sealed", "it is sealed, so it takes no "+many, byRecreate)
	p.refused(have.AllowMsgCounter, "allow_msg_counter", "allow_msg_counter is on, so it takes counters only", byRecreate)
	p.refused(have.AllowMsgSchedules, "allow_msg_schedules", "allow_msg_schedules is on, so a message can wait in it instead of coming", byRecreate)
	p.refused(have.Discard != jetstream.DiscardNew, "discard", "discard is old, which drops "+many+" that nobody has read", byInit)
	p.refused(have.MaxMsgsPerSubject > 0, "max_msgs_per_subject", fmt.Sprintf("max_msgs_per_subject is %d, which limits %s", have.MaxMsgsPerSubject, each), byInit)
	size := fmt.Sprintf("max_msg_size is %d", have.MaxMsgSize)
	p.refused(have.MaxMsgSize > 0 && have.MaxMsgSize < leastMsgSize, "max_msg_size", size+", which leaves no room for "+many, byInit)
	p.named(have.MaxMsgSize >= leastMsgSize, "max_msg_size", fmt.Sprintf("%s, so turns of more than %d bytes are refused", size, have.MaxMsgSize-PayloadReserve), byInit)
	p.refused(have.NoAck, "no_ack", "no_ack is set, so nobody knows what is stored", byInit)
	p.refused(have.SubjectTransform != nil, "subject_transform", "subject_transform changes the subjects of "+many, byInit)
	p.refused(have.SubjectDeleteMarkerTTL > 0, "subject_delete_marker_ttl", "subject_delete_marker_ttl adds messages that are no "+many, byInit)
	for _, s := range want.Subjects {
		p.refused(have.Mirror == nil && !covered(have.Subjects, s), "subjects", fmt.Sprintf("subjects are %q, without %s", have.Subjects, s), byInit)
	}
	p.refused(!have.AllowDirect, "allow_direct", "allow_direct is off", byInit)
	p.refused(want.AllowAtomicPublish && !have.AllowAtomicPublish, "allow_atomic", "allow_atomic is off", byInit+", on nats-server 2.12 or later")

	p.named(have.MaxMsgs > 0, "max_msgs", fmt.Sprintf("max_msgs is %d, after which it refuses every %s", have.MaxMsgs, one), byInit)
	p.named(have.MaxConsumers > 0, "max_consumers", fmt.Sprintf("max_consumers is %d: %s fail past that", have.MaxConsumers, readers), byInit)
	limits := have.ConsumerLimits
	p.named(turns && limits.MaxAckPending > 0 && limits.MaxAckPending < leastAckPending, "consumer_limits", fmt.Sprintf("consumer_limits allow %d unacknowledged messages, with which no group can be joined", limits.MaxAckPending), byInit)
	idle := "a group that is idle for %s, which then begins anew"
	if !turns {
		idle = "a reader that is idle for %s, so that `afterword dlq` may fail"
	}
	p.named(limits.InactiveThreshold > 0, "consumer_limits", "consumer_limits remove "+fmt.Sprintf(idle, limits.InactiveThreshold), byInit)
	p.named(have.AllowRollup && !have.AllowMsgCounter, "allow_rollup_hdrs", "allow_rollup_hdrs is on, so a message can remove others", byInit)
	p.named(have.AllowMsgTTL, "allow_msg_ttl", "allow_msg_ttl is on, so a message can expire before it is read", byRecreate)
	p.named(len(have.Sources) > 0, "sources", "sources bring messages of other streams, which may be no "+many, byInit)
	p.named(have.RePublish != nil && ownSubject(have.RePublish.Destination), "republish", "republish sends its messages to subjects of afterword again", byInit)
	p.named(have.Duplicates < min(want.Duplicates, window(have)), "duplicate_window",
		fmt.Sprintf("duplicate_window is %s, so that what is sent again after it is stored twice", have.Duplicates), byInit)
	p.named(turns && have.MaxAge > 0 && have.MaxAge < time.Hour, "max_age", fmt.Sprintf("max_age is %s: turns that no consumer has read by then are lost", have.MaxAge), "run `afterword stream init --max-age 30d`")
	p.named(turns && have.MaxBytes > 0 && have.MaxBytes < leastBytes, "max_bytes", fmt.Sprintf("max_bytes is %d, which long turns do not fit into", have.MaxBytes), "run `afterword stream init --max-bytes 10GiB`")
	p.named(!turns && have.MaxAge > 0, "max_age", fmt.Sprintf("max_age is %s: dead letters are lost after that", have.MaxAge), byInit)
	p.named(!turns && have.MaxBytes > 0, "max_bytes", fmt.Sprintf("max_bytes is %d: when it is full, no more dead letters are kept, and their turns come again and again", have.MaxBytes), byInit)
	cannot := "nothing can remove a turn"
	if !turns {
		cannot = "`afterword dlq rm` and `requeue` cannot remove a letter"
	}
	p.named(have.DenyDelete && !have.Sealed, "deny_delete", "deny_delete is on, so "+cannot, byRecreate) // sealed has both
	p.named(have.DenyPurge && !have.Sealed, "deny_purge", "deny_purge is on, so "+cannot, byRecreate)
	return p
}

// serverProblems looks at the longest message that the server takes; 0 is not known.
func serverProblems(maxPayload int64) []Problem {
	var p problems
	p.named(maxPayload > 0 && maxPayload < leastMsgSize, "max_payload", fmt.Sprintf("max_payload of the server is %d, which leaves no room for turns", maxPayload),
		fmt.Sprintf("raise it in the configuration of all servers, to at least %d", leastMsgSize))
	return p
}

// clusterProblems looks at how many copies a cluster keeps.
func clusterProblems(info *jetstream.StreamInfo) []Problem {
	var p problems
	c := info.Cluster
	p.named(c != nil && c.Name != "" && info.Config.Replicas < 3, "num_replicas",
		fmt.Sprintf("num_replicas is %d in a cluster, so it is lost, or away, with one node", info.Config.Replicas), "run `afterword stream init --replicas 3`")
	return p
}

// window is how long the duplicate window of a stream may be: no longer than its max_age.
func window(have jetstream.StreamConfig) time.Duration {
	if have.MaxAge > 0 {
		return have.MaxAge
	}
	return DuplicateWindow
}

// ownSubject reports whether a subject, which may have wildcards, is among those of afterword.
func ownSubject(subject string) bool {
	first, _, _ := strings.Cut(subject, ".")
	return strings.ContainsAny(first, "*>{") || first == "afterword"
}

// refuse is an [ErrMisconfigured] of the problems that keep services from starting; nil when
// none does.
func refuse(name string, list []Problem) error {
	list = slices.DeleteFunc(slices.Clone(list), func(p Problem) bool { return !p.Refused })
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: %s", ErrMisconfigured, name, Texts(list))
}

// Texts are all problems in one line.
func Texts(list []Problem) string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, "; ")
}

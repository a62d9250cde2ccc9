// Package stream holds what every part of afterword agrees on about NATS: the
// names on the wire, how to connect, and how the two streams are configured.
//
// The contract: a turn is published to [TurnSubject] with the header
// [HeaderMsgID] set to [MsgID] of its payload, and is stored in the stream
// [Turns]. What cannot be processed is kept in the stream [Dead] with its
// reason. [Ensure] creates both streams and refuses any configuration under
// which an acknowledged turn could be lost; it never loosens or tightens the
// limits that an operator chose.
//
// On failure: nothing here waits without a bound. An unreachable server is
// [ErrUnreachable] (worth waiting for), a stream that breaks a promise is
// [ErrMisconfigured] (worth a person), a missing one is [ErrNoStream], and
// refused credentials are [ErrRefused]. No error and no log line holds a
// password or a token.
package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// Streams and their subjects.
const (
	// Turns is the stream of turns.
	Turns = "AFTERWORD_TURNS"
	// Dead is the stream of dead letters.
	Dead = "AFTERWORD_DEAD"

	// TurnPrefix and a session token make the subject of a turn.
	TurnPrefix = "afterword.turns."
	// TurnSubjects matches the subject of every turn.
	TurnSubjects = TurnPrefix + "*"
	// DeadPrefix and a group name make the subject of a dead letter.
	DeadPrefix = "afterword.dead."
	// DeadSubjects matches the subject of every dead letter.
	DeadSubjects = DeadPrefix + "*"

	// Members is where every running consumer answers who it is. No stream keeps it.
	Members = "afterword.members"
)

// Headers. Names are case-sensitive on the wire, except that readers take
// traceparent in any case.
const (
	// HeaderMsgID makes the server drop a repetition within its duplicate window.
	HeaderMsgID = "Nats-Msg-Id"
	// HeaderTraceparent is the W3C trace context of the publisher.
	HeaderTraceparent = "traceparent"
	// HeaderType says what the payload is; absent means a turn.
	HeaderType = "Afterword-Type"
	// HeaderReason says why a message is a dead letter.
	HeaderReason = "Afterword-Reason"
	// HeaderStreamSeq is the sequence that a dead letter had in [Turns].
	HeaderStreamSeq = "Afterword-Stream-Seq"
	// HeaderSubject is the subject that a dead letter had.
	HeaderSubject = "Afterword-Subject"
	// HeaderTime is when a message became a dead letter, in RFC 3339.
	HeaderTime = "Afterword-Time"
	// HeaderRequeuedFrom is the sequence in [Dead] of the dead letter that a message
	// was made of again. It says something to people only.
	HeaderRequeuedFrom = "Afterword-Requeued-From"
)

// Metadata of the durable consumer of a group, which says whose it is.
const (
	MetaDirectory = "afterword.directory" // id of the transcripts folder
	MetaMachine   = "afterword.machine"   // set when the folder is local to a machine
	MetaHost      = "afterword.host"      // for people
	MetaUnread    = "afterword.unread"    // messages that were gone before the group, or its new folder, could read them
)

// MetaContinued is metadata of the stream of turns that took the place of another one, which had turns
// that it does not have. What it holds is not known to be all, though it has removed nothing.
const MetaContinued = "afterword.continued"

const (
	// PayloadReserve is kept free under the server's max_payload, in bytes, so
	// that a dead letter still fits with the headers it gains.
	PayloadReserve = 16 << 10
	// DefaultMaxPayload is max_payload of a server that was not configured
	// otherwise, in bytes.
	DefaultMaxPayload = 1 << 20

	maxGroup     = 64
	msgIDHexSize = 32
)

// TurnSubject is the subject of every turn of a session. It does not check the
// id; a turn that was decoded has a valid one.
func TurnSubject(sessionID string) string {
	return TurnPrefix + transcript.Token(sessionID)
}

// DeadSubject is the subject of the dead letters of a consumer group. It fails
// as [CheckGroup] does.
func DeadSubject(group string) (string, error) {
	if err := CheckGroup(group); err != nil {
		return "", err
	}
	return DeadPrefix + group, nil
}

// CheckGroup reports whether group can name a consumer group: 1 to 64 of
// [A-Za-z0-9_-], so that it is a subject token, a durable name and a file name
// at once.
func CheckGroup(group string) error {
	if group == "" {
		return fmt.Errorf("group name is empty: use 1 to %d of A-Z a-z 0-9 _ -", maxGroup)
	}
	if len(group) > maxGroup {
		return fmt.Errorf("group name is %d bytes long: at most %d are allowed", len(group), maxGroup)
	}
	for i := 0; i < len(group); i++ {
		switch c := group[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return fmt.Errorf("group name %q: byte %d is not one of A-Z a-z 0-9 _ -", group, i)
		}
	}
	return nil
}

// MsgID is the [HeaderMsgID] of a turn: the first 32 hex digits of the SHA-256
// of its payload. Made of the content, not of id and revision, so that the
// answer of a client that forgot to raise rev is not dropped as a repetition.
func MsgID(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:msgIDHexSize/2])
}

// DeadMsgID is the [HeaderMsgID] of a dead letter: the group and the sequence
// in [Turns], so that a redelivered message is quarantined once.
func DeadMsgID(group string, seq uint64) string {
	return group + "/" + strconv.FormatUint(seq, 10)
}

// RequeueMsgID is the [HeaderMsgID] of a dead letter that is published again: its
// own, because that of the payload may still be in the duplicate window; and the
// same at every try, so that a requeue that was interrupted stores it once.
func RequeueMsgID(deadSeq uint64, stored time.Time) string {
	return fmt.Sprintf("requeued/%d/%d", deadSeq, stored.UnixNano())
}

// PayloadLimit is the longest payload of a turn, in bytes, on a server whose
// max_payload is serverMax, and in streams with these max_msg_size: [PayloadReserve] less than
// the smallest of them, and never negative. A serverMax that is not known yet (0, before the first
// connection) counts as [DefaultMaxPayload]; a stream's 0 or -1 means that it has no limit.
func PayloadLimit(serverMax int64, maxMsgSizes ...int64) int {
	if serverMax <= 0 {
		serverMax = DefaultMaxPayload
	}
	for _, size := range maxMsgSizes {
		if size > 0 {
			serverMax = min(serverMax, size)
		}
	}
	return int(max(serverMax-PayloadReserve, 0))
}

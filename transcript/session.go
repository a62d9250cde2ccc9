package transcript

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxSessionID is the longest session id, in bytes.
const MaxSessionID = 255

const (
	maxToken    = 160 // longest token that spells its session id out
	tokenPrefix = 64  // bytes of it that a hashed token keeps, for people who look at a folder
	upperHex    = "0123456789ABCDEF"
)

// CheckSessionID reports which rule id breaks: 1 to 255 bytes of valid UTF-8
// without control characters. Everything else is allowed, path separators and
// NATS wildcards included; [Token] makes it safe.
func CheckSessionID(id string) error {
	switch {
	case id == "":
		return &RuleError{Member: "session_id", Rule: "must not be empty"}
	case len(id) > MaxSessionID:
		return &RuleError{Member: "session_id", Rule: fmt.Sprintf("is %d bytes long; at most %d are allowed", len(id), MaxSessionID)}
	case !utf8.ValidString(id):
		return &RuleError{Member: "session_id", Rule: "is not valid UTF-8"}
	}
	for i, r := range id {
		if unicode.IsControl(r) {
			return &RuleError{Member: "session_id", Rule: fmt.Sprintf("has the control character %U at byte %d", r, i)}
		}
	}
	return nil
}

// Token encodes a session id for subjects and file names. It is injective, and
// its result is 1 to 160 of [A-Za-z0-9_=~-], so it can be neither a path nor a
// wildcard. Letters, digits, '_' and '-' stand for themselves; every other byte
// is =XX. A result over 160 bytes becomes its first 64, "=~", and the SHA-256
// of the id in lower-case hex.
func Token(id string) string {
	plain := true
	for i := 0; i < len(id); i++ {
		if !isTokenByte(id[i]) {
			plain = false
			break
		}
	}
	if plain && len(id) <= maxToken {
		return id
	}
	enc := make([]byte, 0, 3*len(id))
	for i := 0; i < len(id); i++ {
		if c := id[i]; isTokenByte(c) {
			enc = append(enc, c)
		} else {
			enc = append(enc, '=', upperHex[c>>4], upperHex[c&15])
		}
	}
	if len(enc) <= maxToken {
		return string(enc)
	}
	sum := sha256.Sum256([]byte(id))
	enc = append(enc[:tokenPrefix], '=', '~')
	return string(hex.AppendEncode(enc, sum[:]))
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	// KeySize is how long a key is that [NewKey] makes, in bytes.
	KeySize = 32
	// MinKey and MaxKey are the shortest and the longest text of a key file, in bytes.
	MinKey, MaxKey = 32, 4096

	// signedAs tells what is signed from whatever else the key may sign one day.
	signedAs = "afterword recent 1\n"
)

var (
	// ErrForged says that what Redis holds for a session was not signed with this key: it
	// was altered, copied from another session, or written by a program that does not
	// have the key. It counts as a miss.
	ErrForged = errors.New("the entry in Redis is not signed with the key of this service")
	// ErrOlder says that Redis holds less of a session than was known before: an
	// entry that somebody, or a failover, has put back. It counts as a miss.
	ErrOlder = errors.New("the entry in Redis is older than what was known of the session")
	// ErrNoKey says that the key is not known yet, so that nothing in Redis can be trusted.
	ErrNoKey = fmt.Errorf("%w: the key of its entries is not known yet", ErrUnavailable)
)

// NewKey makes a key.
func NewKey() []byte {
	key := make([]byte, KeySize)
	rand.Read(key) // never fails
	return key
}

// ReadKey reads a key from a file: its text without the white space around it.
func ReadKey(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key := strings.TrimSpace(string(b))
	if len(key) < MinKey || len(key) > MaxKey {
		return nil, fmt.Errorf("%s holds %d bytes: a key has %d to %d, as `openssl rand -base64 48` makes it", file, len(key), MinKey, MaxKey)
	}
	return []byte(key), nil
}

// sign is the signature of what Redis holds of a session.
func sign(key []byte, session, version string, turns []byte) string {
	mac := hmac.New(sha256.New, key)
	head := make([]byte, 0, len(signedAs)+16+len(session)+len(version))
	head = append(head, signedAs...)
	for _, s := range [...]string{session, version} {
		head = binary.BigEndian.AppendUint64(head, uint64(len(s))) // so that no text can pass for two
		head = append(head, s...)
	}
	mac.Write(head)
	mac.Write(turns)
	return base64.RawStdEncoding.EncodeToString(mac.Sum(nil))
}

func signed(key []byte, session, version string, turns []byte, mac string) bool {
	return hmac.Equal([]byte(sign(key, session, version, turns)), []byte(mac))
}

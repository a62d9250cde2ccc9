package gateway

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/afterword-io/afterword/transcript"
)

// idempotencyKey is the header with which a client names a request, so that it may
// send it again.
const idempotencyKey = "Idempotency-Key"

// keyOf returns the key of a request, which is the turn's id; "" is none. The value may be
// quoted, as a structured field is.
func keyOf(h http.Header) (string, error) {
	values := h.Values(idempotencyKey)
	if len(values) == 0 {
		return "", nil
	}
	key := strings.TrimSpace(values[0])
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if err := transcript.CheckTurnID(key); err != nil || len(values) > 1 {
		return "", badRequest(idempotencyKey, idempotencyKey+" is the id of the turn, once: 1 to 128 of A-Z a-z 0-9 . _ : -")
	}
	return key, nil
}

// named is a turn that was sent under a key.
type named struct {
	session, id string
	rev         int
}

// known is what a gateway remembers of it.
type known struct {
	body [sha256.Size]byte
	at   transcript.Instant
}

// names remembers the turns that were sent under a key last, with the timestamps
// that they were given: a request that is sent again makes the same turn.
type names struct {
	mu   sync.Mutex
	seen *simplelru.LRU[named, known]
}

func newNames(most int) *names {
	seen, _ := simplelru.NewLRU[named, known](most, nil) // fails for a size under 1 only
	return &names{seen: seen}
}

// apply makes the key of a request the id of its turn, and gives the turn the timestamp that it
// had when it came before. What has no timestamp gets one from stamp.
func (n *names) apply(d *transcript.Draft, key string, body []byte, stamp func(session string) (transcript.Instant, error)) error {
	if d.ID != "" && d.ID != key {
		return &transcript.RuleError{Member: "id", Rule: "is not the " + idempotencyKey + "; leave one of them out"}
	}
	d.ID = key
	name, sum := named{d.SessionID, key, d.Rev}, sha256.Sum256(body)
	n.mu.Lock()
	defer n.mu.Unlock()
	before, ok := n.seen.Get(name)
	if ok && before.body != sum {
		return &transcript.RuleError{Member: idempotencyKey, Rule: "was used for another turn of this session; a turn is revised with a higher rev"}
	}
	at, given := d.Timestamp()
	switch {
	case given:
	case ok:
		at = before.at
	default:
		var err error
		if at, err = stamp(d.SessionID); err != nil {
			return err
		}
	}
	d.SetTimestamp(at)
	n.seen.Add(name, known{sum, at})
	return nil
}

// forget frees the key of a turn that was refused for good, for the corrected one.
func (n *names) forget(d *transcript.Draft) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen.Remove(named{d.SessionID, d.ID, d.Rev})
}

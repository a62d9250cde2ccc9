package transcript

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// namedTails bounds how many tails [named] remembers. One that it forgot costs an
// fsync of its folder.
const namedTails = 100_000

// knownNames remembers of which tails the names are durable, where every folder has to
// be synced by itself. That a tail is there, and has lines, does not say so: who made
// it may have been killed before it synced the folder.
type knownNames struct {
	mu    sync.Mutex
	known *simplelru.LRU[string, struct{}]
}

func (n *knownNames) init() {
	n.known, _ = simplelru.NewLRU[string, struct{}](namedTails, nil) // fails only for a size under 1
}

func (n *knownNames) has(token string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.known.Get(token)
	return ok
}

func (n *knownNames) add(token string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known.Add(token, struct{}{})
}

func (n *knownNames) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known.Purge()
}

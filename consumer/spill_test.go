package consumer

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// Whatever is put in comes out once, in its session's order, from memory and
// from the scratch file, and the spill can be filled again.
func TestSpill(t *testing.T) {
	store, err := transcript.Open(transcript.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(t.Context())
	s := newSpill(store)
	defer s.close()
	s.buffer, s.slice = 200, 1000
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 3 {
		want := make(map[string][]uint64)
		size := int64(0)
		for seq := range uint64(5000) {
			token := fmt.Sprint("t", rnd.IntN(300))
			if seq%3 == 0 {
				token = "long" // a part that does not fit into a slice
			}
			data := bytes.Repeat([]byte{byte(seq)}, rnd.IntN(1+rnd.IntN(900)))
			if err := s.add(t.Context(), token, seq, time.Unix(0, int64(seq)), data); err != nil {
				t.Fatal(err)
			}
			want[token] = append(want[token], seq)
			size += int64(spillHead + len(token) + len(data))
		}
		if s.size != size || s.scratch == nil {
			t.Fatalf("round %d: %d bytes, want %d; scratch file %v", round, s.size, size, s.scratch)
		}
		var mu sync.Mutex
		got := make(map[string][]uint64)
		err := s.drain(t.Context(), func(_ context.Context, slice []spilled) error {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range slice {
				if bytes.Count(m.payload, []byte{byte(m.seq)}) != len(m.payload) || m.stored.UnixNano() != int64(m.seq) {
					t.Errorf("message %d holds %x", m.seq, m.payload)
				}
				got[string(m.token)] = append(got[string(m.token)], m.seq)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("round %d: got\n%v\nwant\n%v", round, got, want)
		}
		if s.size != 0 {
			t.Errorf("round %d: %d bytes are left", round, s.size)
		}
	}
}

func TestSpillThatCannotBeRead(t *testing.T) {
	for _, data := range [][]byte{[]byte("short"), append(make([]byte, spillHead-8), 9, 9, 9, 9, 9, 9, 9, 9), {255, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'x'}} {
		if slice, err := parseSpilled(data); err == nil && len(slice) != 1 {
			t.Errorf("%v: %v", data, slice)
		} else if err == nil && len(data) != spillHead {
			t.Errorf("%v is taken for a message", data)
		}
	}
}

func TestStallWatch(t *testing.T) {
	const stall = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		stopped := make(chan struct{})
		w := watchStall(func() { close(stopped) }, stall)
		defer w.stop()
		for range 100 { // a reader that gets messages, and works on each for longer than it may wait
			w.enter()
			time.Sleep(stall / 2)
			w.leave()
			time.Sleep(3 * stall)
		}
		select {
		case <-stopped:
			t.Fatal("a reader that gets messages is stopped")
		default:
		}
		w.enter()
		began := time.Now()
		<-stopped
		if took := time.Since(began); took < stall || took > 2*stall || !w.stalled() {
			t.Errorf("stopped after %v", took)
		}
	})
}

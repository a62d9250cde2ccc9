package consumer

import (
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/stream"
)

// headerLeftOut says how many headers of its message a dead letter does not carry.
const headerLeftOut = "Afterword-Headers-Left-Out"

// letterHeaders are what a dead letter has beside the headers of its message.
var letterHeaders = []string{stream.HeaderReason, stream.HeaderStreamSeq, stream.HeaderSubject, stream.HeaderTime, headerTruncated, headerLeftOut}

// maxCarried bounds the headers of its message that a dead letter carries, in bytes: with its own
// headers they fit into [stream.PayloadReserve], and into the 64 KiB that the server allows.
const maxCarried = stream.PayloadReserve / 2

// foreign reports whether a header of a message says nothing in a letter: it tells the server what to do
// with the message, or has the name of a header that the letter has itself.
func foreign(name string) bool {
	return strings.HasPrefix(name, "Nats-") || slices.ContainsFunc(letterHeaders, func(own string) bool { return strings.EqualFold(own, name) })
}

// carried returns the headers of a message that its dead letter carries, and how many it cannot carry: nats.go
// refuses to send names that are no tokens, takes a status for its own, and a letter has room for maxCarried bytes.
func carried(h nats.Header) (kept nats.Header, leftOut int) {
	kept = nats.Header{}
	room := maxCarried
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if foreign(name) {
			continue
		}
		size := (&nats.Msg{Header: nats.Header{name: h[name]}}).Size() // 0 when nats.go refuses it
		broken := slices.ContainsFunc(h[name], func(v string) bool { return strings.ContainsAny(v, "\r\n") })
		if size == 0 || size > room || broken || name == "Status" || name == "Description" {
			leftOut++
			continue
		}
		room -= size
		kept[name] = h[name]
	}
	return kept, leftOut
}

// carries reports whether a letter has the headers of a message, but those that it cannot carry. An earlier
// version carried some of these.
func carries(letter, h nats.Header) bool {
	want, _ := carried(h)
	got := maps.Clone(letter)
	maps.DeleteFunc(got, func(name string, _ []string) bool { return foreign(name) })
	for name := range got {
		if _, ok := want[name]; !ok && h[name] != nil {
			want[name] = h[name]
		}
	}
	return stream.SameHeaders(want, got)
}

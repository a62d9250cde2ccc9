package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message reads a message of a stream, [jetstream.ErrMsgNotFound] when it is not there. A publisher can give
// a message headers that cannot be parsed, a status, or names that the server adds to its answer: nats.go cannot
// read such a message. Of one whose headers cannot be parsed only sequence and payload are known; see [OnSubject].
func Message(ctx context.Context, js jetstream.JetStream, name string, seq uint64) (*jetstream.RawStreamMsg, error) {
	m, err := direct(ctx, js, name, fmt.Sprintf(`{"seq":%d}`, seq), seq)
	if !errors.Is(err, nats.ErrNoResponders) {
		return m, err
	}
	s, err := js.Stream(ctx, name) // it is not there, or has no direct access
	if err != nil {
		return nil, err
	}
	return s.GetMsg(ctx, seq)
}

// OnSubject reports whether the next message of a stream on a subject, from a sequence on, has headers
// that cannot be parsed.
func OnSubject(ctx context.Context, js jetstream.JetStream, name string, seq uint64, subject string) (bool, error) {
	if !isSubject(subject) {
		return false, nil
	}
	m, err := direct(ctx, js, name, fmt.Sprintf(`{"seq":%d,"next_by_subj":%q}`, seq, subject), seq)
	return err == nil && len(m.Header) == 0, err
}

func direct(ctx context.Context, js jetstream.JetStream, name, request string, seq uint64) (*jetstream.RawStreamMsg, error) {
	prefix := jetstream.DefaultAPIPrefix
	switch o := js.Options(); {
	case o.Domain != "":
		prefix = "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		prefix = strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	r, err := js.Conn().RequestWithContext(ctx, prefix+"DIRECT.GET."+name, []byte(request))
	if err != nil {
		return nil, err
	}
	m := &jetstream.RawStreamMsg{Sequence: seq, Header: r.Header, Data: r.Data}
	if len(r.Header) == 0 { // the server adds some, so these could not be parsed
		return m, nil
	}
	if lastOf(r.Header, jetstream.SequenceHeader) == "" {
		if r.Header.Get("Status") == "404" {
			return nil, jetstream.ErrMsgNotFound
		}
		return nil, fmt.Errorf("nats: %s %s", r.Header.Get("Status"), r.Header.Get("Description"))
	}
	m.Subject = lastOf(r.Header, jetstream.SubjectHeader)
	if m.Sequence, err = strconv.ParseUint(lastOf(r.Header, jetstream.SequenceHeader), 10, 64); err != nil {
		return nil, err
	}
	m.Time, err = time.Parse(time.RFC3339Nano, lastOf(r.Header, jetstream.TimeStampHeaer))
	return m, err
}

// lastOf is the value that the server added: it comes after those of the publisher.
func lastOf(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

package stream_test

import (
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/stream"
)

func TestNames(t *testing.T) {
	for _, c := range []struct{ what, got, want string }{
		{"subject", stream.TurnSubject("a.b*> c"), "afterword.turns.a=2Eb=2A=3E=20c"},
		{"message id", stream.MsgID([]byte("abc")), "ba7816bf8f01cfea414140de5dae2223"},
		{"dead message id", stream.DeadMsgID("transcripts", 42), "transcripts/42"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
}

func TestDeadSubject(t *testing.T) {
	got, err := stream.DeadSubject("vm-2_A")
	if err != nil || got != "afterword.dead.vm-2_A" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", "ü", strings.Repeat("x", 65), "a/b"} {
		if s, err := stream.DeadSubject(bad); err == nil {
			t.Errorf("group %q was accepted as %q", bad, s)
		}
	}
	if err := stream.CheckGroup(strings.Repeat("x", 64)); err != nil {
		t.Error(err)
	}
}

func TestPayloadLimit(t *testing.T) {
	for server, want := range map[int64]int{1 << 20: 1<<20 - 16<<10, 0: 1<<20 - 16<<10, 1024: 0} {
		if got := stream.PayloadLimit(server); got != want {
			t.Errorf("PayloadLimit(%d) = %d, want %d", server, got, want)
		}
	}
}

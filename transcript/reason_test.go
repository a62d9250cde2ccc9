package transcript

import (
	"strings"
	"testing"
)

// spoken is in every place of a payload where somebody can have written something. None of its
// letters is in a text of this package.
const spoken = "ЖЩЮ"

func silent(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil && strings.ContainsAny(err.Error(), spoken) {
		t.Fatalf("%.200q: the error quotes it: %v", what, err)
	}
}

// No error says what is in a payload, wherever and however it is broken.
func TestErrorsQuoteNothing(t *testing.T) {
	good := `{"id":"a","session_id":"` + spoken + `","timestamp":"2026-11-23T15:04:05Z","user":"` + spoken + `","assistant":"` + spoken + `","status":"complete","rev":1,` +
		`"error":"` + spoken + `","usage":{"` + spoken + `":1},"tool_calls":[{"id":"` + spoken + `","` + spoken + `":null}],"attachments":[{"uri":"` + spoken + `"}],"meta":{"` + spoken + `":["` + spoken + `"]},"` + spoken + `":1}`
	if _, err := Decode([]byte(good), 0); err != nil {
		t.Fatal(err)
	}
	refused := 0
	try := func(payload string) {
		t.Helper()
		_, err := Decode([]byte(payload), 0)
		if err != nil {
			refused++
		}
		silent(t, payload, err)
		_, err = ParseDocument("s", []byte(`{"session_id":"s","messages":[`+payload+`]}`))
		silent(t, payload, err)
		_, err = ParseDocument("s", []byte(payload))
		silent(t, payload, err)
		_, err = DocumentSession([]byte(payload))
		silent(t, payload, err)
	}
	insertions := []string{spoken, `"`, `\x`, `\u`, `\u` + spoken, `\ud800`, `\ud800` + spoken, `\udc00` + spoken, `\ud800\u0041` + spoken, "\xff" + spoken, "\x00", "\n", "{", "}", "[", ",", "\u2028", "1" + spoken, "tru", "nul" + spoken, "-", "1e" + spoken, " "}
	for i := range len(good) {
		try(good[:i])
		for _, s := range insertions {
			try(good[:i] + s + good[i:])
		}
	}
	for _, member := range []string{"id", "session_id", "timestamp", "user", "assistant", "status", "rev", "completed_at", "error", "usage", "tool_calls", "attachments", "meta", "supersedes", spoken} {
		for _, value := range []string{`"` + spoken + `"`, `{"` + spoken + `":1,"` + spoken + `":2}`, `["` + spoken + `"]`, "123456789012345678901234567890", "null", "true", `"\ud800` + spoken + `"`, spoken,
			`[{"` + spoken + `":"` + spoken + `","status":1}]`, strings.Repeat(`{"`+spoken+`":`, 40)} {
			try(`{"id":"a","session_id":"s","timestamp":"2026-11-23T15:04:05Z","user":"u","` + member + `":` + value + `}`)
			try(`{"` + member + `":` + value + `}`)
		}
	}
	if refused < 5_000 {
		t.Errorf("only %d payloads were refused", refused)
	}
	for _, turn := range []Turn{
		{SessionID: "s" + spoken + "\n", User: "u"}, {SessionID: "s", User: spoken + "\xff"}, {SessionID: "s", User: "u", ID: spoken},
		{SessionID: "s", User: "u", Status: spoken}, {SessionID: "s", User: "u", Meta: map[string]any{spoken: spoken + "\xff"}},
		{SessionID: "s", User: "u", Meta: map[string]any{spoken: func() {}}}, {SessionID: "s", User: "u", ToolCalls: []ToolCall{{Arguments: []byte(`{"` + spoken)}}},
		{SessionID: "s", User: "u", Supersedes: spoken}, {SessionID: "s", User: "u", Model: spoken + "\xff"},
	} {
		_, err := turn.Draft()
		if err == nil {
			t.Errorf("%+v is accepted", turn)
		}
		silent(t, turn.User, err)
	}
}

package gateway

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// A member that resembles a known one is kept and warned of, or refused when asked to be strict.
func TestMisspeltMembers(t *testing.T) {
	w := newWorld(t, nil)
	body := `{"user":"hi","assistnt":"hello","usage":{"inputTokens":3},"x-new":1}`
	want := []warning{{"assistnt", "assistant"}, {"usage.inputTokens", "usage.input_tokens"}}
	post := func(query, body string) *answer {
		return w.do("POST", "/v1/sessions/abc/turns"+query, body, "Content-Type", "application/json")
	}
	for _, query := range []string{"", "?strict=0"} {
		var got posted
		post(query, body).want(http.StatusAccepted).into(&got)
		if !reflect.DeepEqual(got.Warnings, want) {
			t.Errorf("%q: %+v", query, got.Warnings)
		}
	}
	a := post("?strict=1", body)
	if p := a.problem(http.StatusUnprocessableEntity, "assistnt"); p.Type != typePrefix+"rule" || !strings.Contains(p.Detail, "assistant") {
		t.Errorf("%+v", p)
	}
	if a := post("?strict=1", `{"user":"hi","assistant":"hello","x-new":1}`).want(http.StatusAccepted); strings.Contains(string(a.body), "warnings") {
		t.Errorf("%s", a.body)
	}
	post("?strict=perhaps", body).problem(http.StatusBadRequest, "strict")

	lines := `{"session_id":"a","user":"hi","assistnt":"x"}` + "\n" + `{"session_id":"a","user":"hi","x-new":"x"}` + "\n"
	batch := func(query string) *answer {
		return w.do("POST", "/v1/turns"+query, lines, "Content-Type", batchTypes[0])
	}
	var got batchAnswer
	batch("").want(http.StatusAccepted).into(&got)
	if len(got.Results) != 2 || !reflect.DeepEqual(got.Results[0].Warnings, want[:1]) || got.Results[1].Warnings != nil {
		t.Errorf("%+v", got)
	}
	p := batch("?strict=1").problem(http.StatusUnprocessableEntity, "")
	if len(p.Results) != 2 || p.Results[0].Status != 422 || p.Results[0].Problem.Member != "assistnt" || p.Results[1].Status != 202 || *p.Taken != 2 {
		t.Errorf("%+v", p)
	}
}

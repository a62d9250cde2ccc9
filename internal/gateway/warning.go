package gateway

import (
	"net/http"
	"strconv"

	"github.com/afterword-io/afterword/transcript"
)

// warning is about a member of a turn that was accepted all the same.
type warning struct {
	Member string `json:"member"` // that is unknown, and kept
	Meant  string `json:"meant"`  // the known one whose name it resembles
}

// posted is the answer to a turn.
type posted struct {
	accepted
	Warnings []warning `json:"warnings,omitempty"`
}

// misspelt warns of members whose names resemble known ones, or refuses the first of them.
func misspelt(d *transcript.Draft, strict bool) ([]warning, error) {
	var list []warning
	for _, m := range d.Misspellings() {
		if strict {
			return nil, m.Rule()
		}
		list = append(list, warning{m.Member, m.Meant})
	}
	return list, nil
}

// strictOf reads whether misspelt members are refused.
func strictOf(r *http.Request) (bool, error) {
	q, err := parseQuery(r, "strict")
	if err != nil || !q.Has("strict") {
		return false, err
	}
	strict, err := strconv.ParseBool(q.Get("strict"))
	if err != nil {
		return false, badRequest("strict", "strict is 1 or 0.")
	}
	return strict, nil
}

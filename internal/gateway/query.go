package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/afterword-io/afterword/transcript"
)

// query is what follows the path of a request.
type query struct{ url.Values }

// parseQuery reads the query of a request, in which there are these parameters and no
// others: one that is misspelt would otherwise be an answer to another question.
func parseQuery(r *http.Request, names ...string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, badRequest("", "The query is malformed.")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case !slices.Contains(names, name) && len(names) == 0:
			return query{}, badRequest(name, "This path takes no query.")
		case !slices.Contains(names, name):
			return query{}, badRequest(name, "The query of this path takes "+strings.Join(names, ", ")+".")
		case len(values[name]) > 1:
			return query{}, badRequest(name, name+" is given twice.")
		}
	}
	return query{values}, nil
}

// integer returns a parameter; absent means fallback.
func (q query) integer(name string, fallback, low, high int) (int, error) {
	if !q.Has(name) {
		return fallback, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < low || n > high {
		return 0, badRequest(name, fmt.Sprintf("%s is an integer from %d to %d.", name, low, high))
	}
	return n, nil
}

// prefix returns the beginning of session ids that is asked for; "" is all.
func (q query) prefix() (string, error) {
	prefix := q.Get("prefix")
	if len(prefix) > transcript.MaxSessionID || !utf8.ValidString(prefix) {
		return "", badRequest("prefix", "prefix is the beginning of a session id.")
	}
	return prefix, nil
}

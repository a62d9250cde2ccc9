package httpio

import (
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// CheckContent refuses a body that does not say, once and well formed, that it is of a kind that accept
// knows, in UTF-8. What a browser sends without asking first (a form, text, nothing at all) is none.
func CheckContent(w http.ResponseWriter, r *http.Request, kind string, accept func(kind string) bool) *Problem {
	refused := func(format string, args ...any) *Problem {
		w.Header().Set("Accept", kind)
		return NewProblem(http.StatusUnsupportedMediaType, "", fmt.Sprintf(format, args...)+" Send "+kind+".")
	}
	given := r.Header.Values("Content-Type")
	switch {
	case len(given) == 0 || len(given) == 1 && given[0] == "":
		return refused("The request has no Content-Type.")
	case len(given) > 1:
		return refused("The request has more than one Content-Type.")
	}
	media, params, err := mime.ParseMediaType(given[0])
	if err != nil {
		return refused("The Content-Type is malformed.")
	}
	if !accept(media) {
		return refused("The body is not of a kind that is taken here.")
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8") {
		return refused("The charset %q is not taken: JSON is UTF-8.", shorten(charset))
	}
	if e := r.Header.Values("Content-Encoding"); len(e) > 1 || len(e) == 1 && e[0] != "" && !strings.EqualFold(e[0], "identity") {
		w.Header().Set("Accept-Encoding", "identity")
		return NewProblem(http.StatusUnsupportedMediaType, "", "The body is compressed. Send it without Content-Encoding.")
	}
	return nil
}

// IsJSON reports whether a media type is JSON.
func IsJSON(kind string) bool {
	return kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
}

// shorten bounds what an answer repeats of a request, in bytes.
func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/transcript"
)

// handler answers one request. An error that it returns becomes a problem
// document; it returns one only when it has written nothing.
type handler func(w http.ResponseWriter, r *http.Request, at place) error

// place is what the path of a request names.
type place struct {
	session string // checked
	turn    string // checked
}

type route struct {
	method   string // "" is none: the path exists, and answers nothing
	pattern  string
	segments httpio.Pattern
	handle   handler
}

func newRoute(method, pattern string, h handler) route {
	return route{method, pattern, httpio.NewPattern(pattern), h}
}

// place reads the ids in a path that matches.
func (rt *route) place(path []string) (at place, err error) {
	for i, s := range rt.segments {
		switch s {
		case "{id}":
			if err := transcript.CheckSessionID(path[i]); err != nil {
				return place{}, badSession(err)
			}
			at.session = path[i]
		case "{turn}":
			if err := transcript.CheckTurnID(path[i]); err != nil {
				return place{}, badRequest("id", err.Error())
			}
			at.turn = path[i]
		}
	}
	return at, nil
}

type routes []route

// nothing answers a path that is not served with those that are.
func (rs routes) nothing() *problem {
	paths := make([]string, len(rs))
	for i := range rs {
		if paths[i] = rs[i].pattern; paths[i] == describedAt {
			return notFound("There is nothing at this path. GET " + describedAt + " has all that there are.")
		}
	}
	return notFound("There is nothing at this path. There are " + strings.Join(paths, ", ") + ".")
}

// find returns the route of a request. pattern is "" when the path is unknown.
func (rs routes) find(r *http.Request) (h handler, pattern string, at place, err error) {
	path, ok := httpio.Segments(r.URL)
	if !ok {
		return nil, "", place{}, rs.nothing()
	}
	var methods []string
	for i := range rs {
		rt := &rs[i]
		if !rt.segments.Matches(path) || rt.method == "" && path[len(path)-1] == "" {
			continue
		}
		pattern = rt.pattern
		if httpio.Answers(rt.method, r) {
			at, err = rt.place(path)
			return rt.handle, pattern, at, err
		}
		methods = append(methods, rt.method)
	}
	if pattern == "" {
		return nil, "", place{}, rs.nothing()
	}
	return nil, pattern, place{}, notAllowed(httpio.Allow(methods))
}

// turnPath is the path of a turn, for clients.
func turnPath(session, id string) string {
	return "/v1/sessions/" + escapeSegment(session) + "/turns/" + escapeSegment(id)
}

// escapeSegment also encodes the dots of "." and "..", which clients would clean away.
func escapeSegment(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

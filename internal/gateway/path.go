package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/afterword-io/afterword/transcript"
)

// http.ServeMux is of no use here: it cleans paths and redirects, and a session
// may be called "..".

// handler answers one request. An error that it returns becomes a problem
// document; it returns one only when it has written nothing.
type handler func(w http.ResponseWriter, r *http.Request, at place) error

// place is what the path of a request names.
type place struct {
	session string // checked
	turn    string // checked
}

type route struct {
	method   string
	pattern  string
	segments []string
	handle   handler
}

func newRoute(method, pattern string, h handler) route {
	return route{method, pattern, strings.Split(pattern[1:], "/"), h}
}

func (rt *route) matches(path []string) bool {
	if len(path) != len(rt.segments) {
		return false
	}
	for i, s := range rt.segments {
		if s[0] != '{' && s != path[i] {
			return false
		}
	}
	return true
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
	path, ok := segments(r.URL)
	if !ok {
		return nil, "", place{}, rs.nothing()
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allow []string
	for i := range rs {
		rt := &rs[i]
		if !rt.matches(path) {
			continue
		}
		pattern = rt.pattern
		if rt.method == method {
			at, err = rt.place(path)
			return rt.handle, pattern, at, err
		}
		if allow = append(allow, rt.method); rt.method == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	if pattern == "" {
		return nil, "", place{}, rs.nothing()
	}
	slices.Sort(allow)
	return nil, pattern, place{}, notAllowed(strings.Join(allow, ", "))
}

// segments decodes the segments of a path, each by itself, so that an encoded
// slash is part of an id.
func segments(u *url.URL) ([]string, bool) {
	raw := u.RawPath // as it came, when that is not the default encoding
	if raw == "" {
		raw = u.EscapedPath()
	}
	raw, ok := strings.CutPrefix(raw, "/")
	if !ok {
		return nil, false
	}
	path := strings.Split(raw, "/")
	for i := range path {
		s, err := url.PathUnescape(path[i])
		if err != nil {
			return nil, false
		}
		path[i] = s
	}
	return path, true
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

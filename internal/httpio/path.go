package httpio

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// http.ServeMux is of no use here: it cleans paths and redirects, and a session may be called "..".

// Segments decodes the segments of a path, each by itself, so that an encoded slash is part of
// one. ok is false for what is not a path from the root.
func Segments(u *url.URL) (path []string, ok bool) {
	raw := u.RawPath // as it came, when that is not the default encoding
	if raw == "" {
		raw = u.EscapedPath()
	}
	raw, ok = strings.CutPrefix(raw, "/")
	if !ok {
		return nil, false
	}
	path = strings.Split(raw, "/")
	for i := range path {
		s, err := url.PathUnescape(path[i])
		if err != nil {
			return nil, false
		}
		path[i] = s
	}
	return path, true
}

// Pattern is a path as it is declared: a segment in braces stands for any segment.
type Pattern []string

// NewPattern makes the pattern of a path that begins with a slash.
func NewPattern(path string) Pattern { return strings.Split(path[1:], "/") }

// Matches reports whether these are the segments of such a path.
func (p Pattern) Matches(path []string) bool {
	if len(path) != len(p) {
		return false
	}
	for i, s := range p {
		if !p.Names(i) && s != path[i] {
			return false
		}
	}
	return true
}

// Names reports whether segment i stands for any.
func (p Pattern) Names(i int) bool { return strings.HasPrefix(p[i], "{") }

// Answers reports whether a route of method answers a request: HEAD is answered where GET is.
func Answers(method string, r *http.Request) bool {
	return r.Method == method || r.Method == http.MethodHead && method == http.MethodGet
}

// Allow is the header that lists the methods of a path.
func Allow(methods []string) string {
	all := slices.Clone(methods)
	if slices.Contains(all, http.MethodGet) {
		all = append(all, http.MethodHead)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

package console

import (
	"net/http"
	"strings"

	"github.com/afterword-io/afterword/internal/httpio"
)

// route is a path of the console, below where it is mounted.
type route struct {
	method, path string
	pattern      httpio.Pattern
	handle       http.Handler
}

func (c *Console) add(method, path string, h http.Handler) {
	c.routes = append(c.routes, route{method, path, httpio.NewPattern(path), h})
}

// find answers a path below the mount: with its route, or with the problem that it has none. Paths are neither
// cleaned nor redirected.
func (c *Console) find(r *http.Request, path []string) http.Handler {
	var methods []string
	named := "" // the path that was found, so that requeue is never the number of a letter
	for i := range c.routes {
		rt := &c.routes[i]
		if !rt.pattern.Matches(path) || named != "" && named != rt.path {
			continue
		}
		named = rt.path
		if httpio.Answers(rt.method, r) {
			r.Pattern = rt.path
			for i, s := range rt.pattern {
				if rt.pattern.Names(i) {
					r.SetPathValue(strings.Trim(s, "{}"), path[i])
				}
			}
			return rt.handle
		}
		methods = append(methods, rt.method)
	}
	return c.answer(func(http.ResponseWriter, *http.Request) error {
		if len(methods) > 0 {
			return httpio.NotAllowed(httpio.Allow(methods))
		}
		return newProblem(http.StatusNotFound, "There is nothing at this path.")
	})
}

// below returns what of a path is behind the base path, which a proxy may have cut off.
func (c *Console) below(path []string) []string {
	base := strings.Split(c.cfg.BasePath, "/")[1:]
	if len(path) < len(base) {
		return path
	}
	for i, s := range base {
		if path[i] != s {
			return path
		}
	}
	return path[len(base):]
}

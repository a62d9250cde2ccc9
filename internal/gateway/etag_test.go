package gateway

import (
	"net/http"
	"strings"
	"testing"
)

func TestEntityTags(t *testing.T) {
	w := newWorld(t, nil)
	w.store1("s", "one")
	w.consume()
	for _, path := range []string{"/v1/sessions/s/history", "/v1/sessions/s/transcript"} {
		a := w.do("GET", path, "").want(http.StatusOK)
		tag := a.header.Get("ETag")
		if tag == "" || a.header.Get("Cache-Control") != "private, no-cache" {
			t.Fatalf("%s: %v", path, a.header)
		}
		for _, mine := range []string{tag, "W/" + strings.TrimPrefix(tag, "W/"), `"x", ` + tag, "*"} {
			b := w.do("GET", path, "", "If-None-Match", mine).want(http.StatusNotModified)
			if len(b.body) != 0 || b.header.Get("ETag") != tag || b.header.Get("Content-Type") != "" {
				t.Errorf("%s with %s: %q %v", path, mine, b.body, b.header)
			}
		}
		w.do("HEAD", path, "", "If-None-Match", tag).want(http.StatusNotModified)
		w.do("GET", path, "", "If-None-Match", `"x"`, "If-None-Match", "").want(http.StatusOK)
		w.store1("s", "of "+path)
		w.consume()
		if b := w.do("GET", path, "", "If-None-Match", tag).want(http.StatusOK); b.header.Get("ETag") == tag {
			t.Errorf("%s: another answer with the same tag", path)
		}
	}
	// Another limit, another answer.
	one, two := w.do("GET", "/v1/sessions/s/history?limit=1", ""), w.do("GET", "/v1/sessions/s/history?limit=2", "")
	if one.header.Get("ETag") == two.header.Get("ETag") {
		t.Error("the limit makes no difference")
	}
	if a := w.do("GET", "/v1/sessions", "").want(http.StatusOK); a.header.Get("Cache-Control") != "no-store" || a.header.Get("ETag") != "" {
		t.Errorf("%v", a.header)
	}
}

package cache

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"", "0 [127.0.0.1:6379] false    0"},
		{"redis://h", "0 [h:6379] false    0"},
		{"redis://h:1/2", "0 [h:1] false    2"},
		{"rediss://[::1]:7/", "0 [[::1]:7] true    0"},
		{"redis://u:p%40%2F@h", "0 [h:6379] false u p@/  0"},
		{"redis://:p@h", "0 [h:6379] false  p  0"},
		{"redis+cluster://a,b:2, c", "1 [a:6379 b:2 c:6379] false    0"},
		{"rediss+cluster://u:p@a,b", "1 [a:6379 b:6379] true u p  0"},
		{"redis+sentinel://a,b:2/mine", "2 [a:26379 b:2] false   mine 0"},
		{"redis+sentinel://u:p@a/mine/4?sentinel_user=su&sentinel_password=sp", "2 [a:26379] false u p mine 4"},
	} {
		got, err := parseURL(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if s := fmt.Sprintf("%d %s %v %s %s %s %d", got.mode, got.addrs, got.tls, got.user, got.password, got.master, got.db); s != c.want {
			t.Errorf("%s: got %q, want %q", c.url, s, c.want)
		}
	}
}

func TestMalformedURLNamesWhatIsWrongAndHidesSecrets(t *testing.T) {
	for url, want := range map[string]string{
		"localhost:6379":                        "no scheme",
		"http://h":                              "scheme is not one of",
		"redis://":                              "host 1 of 1 is empty",
		"redis://:hunter2@":                     "is empty",
		"redis://a,b":                           "several hosts",
		"redis+cluster://a,,b":                  "host 2 of 3 is empty",
		"redis+cluster://a/1":                   "no databases",
		"redis+sentinel://a":                    "master is missing",
		"redis://h/x":                           "database is not a number",
		"redis://h/1/2":                         "too many parts",
		"redis://h:99999":                       "port that is not 1 to 65535",
		"redis://user:hunter2":                  "neither a host nor host:port",
		"redis://:hunter2/x@h":                  "percent-encode",
		"redis://:hunter2#@h":                   "percent-encode",
		"redis://:hunter2%zz@h":                 "bad percent-encoding",
		"redis://hunter2@h":                     "user without a password",
		"redis://h?password=hunter2":            "unknown parameter",
		"redis://:hunter2@h?db=1":               "unknown parameter",
		"redis://h/#hunter2":                    "fragment",
		"redis+sentinel://a/m?password=hunter2": "unknown parameter",
	} {
		err := CheckURL(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, which does not say %q", url, err, want)
			continue
		}
		if s := err.Error() + RedactURL(url); strings.Contains(s, "hunter2") || strings.Contains(s, "\n") {
			t.Errorf("%s: %s", url, s)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for url, want := range map[string]string{
		"redis://u:hunter2@h:1/2": "redis://u:***@h:1/2",
		"redis://:hunter2@h":      "redis://:***@h:6379",
		"redis+sentinel://:hunter2@a,b/m/1?sentinel_password=hunter2": "redis+sentinel://:***@a:26379,b:26379/m/1",
		"redis+cluster://a,b": "redis+cluster://a:6379,b:6379",
		"redis://:hunter2@":   "redis://***",
		"hunter2":             "***",
	} {
		if got := RedactURL(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

package httpio

import (
	"strings"
	"testing"
)

func TestParseHosts(t *testing.T) {
	hosts, err := ParseHosts(" Chat.Example.org., 10.0.0.5:8080,[2001:DB8::1],api:443,, ")
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]bool{
		"chat.example.org": true, "CHAT.EXAMPLE.ORG:9999": true, "chat.example.org.": true, "chat.example.org.evil.com": false, "x.chat.example.org": false,
		"10.0.0.5:8080": true, "10.0.0.5": false, "10.0.0.5:80": false, "[2001:db8:0::1]:1": true, "[::ffff:10.0.0.5]:8080": true,
		"api:443": true, "api": true, "api:80": false,
	} {
		h, err := parseHost(asked)
		if err != nil || hosts.has(&h) != want {
			t.Errorf("%s: %t, %v", asked, hosts.has(&h), err)
		}
	}
	for _, list := range []string{"http://a.b", "https://chat.example.org/"} { // it is not the port that is wrong
		if _, err := ParseHosts(list); err == nil || strings.Contains(err.Error(), "port is not") || !strings.Contains(err.Error(), "more than a host") {
			t.Errorf("%s: %v", list, err)
		}
	}
	for _, list := range []string{"*", "*.example.org", "https://example.org", "example.org/x", "a b", "::1", "[::1", "[10.0.0.1]", "a:0", "a:65536", "a:x", "a..b", ".a", "ä.example", "user@a"} {
		if _, err := ParseHosts("ok," + list); err == nil || !strings.Contains(err.Error(), list) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

func TestParseOrigins(t *testing.T) {
	got, err := ParseOrigins("https://Chat.example.org, http://localhost:3000,https://a:443,http://[::1]:80,http://b:443")
	if want := "https://chat.example.org http://localhost:3000 https://a http://[::1] http://b:443"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%q, %v", got, err)
	}
	for _, list := range []string{
		"*", "null", "chat.example.org", "https://", "https://*", "https://*.example.org", "https://a/", "https://a/b", "https://a?b", "https://u@a", "file://a", "ftp://a", "//a", "https://a:0", "https://a b",
	} {
		if _, err := ParseOrigins(list); err == nil || !strings.Contains(err.Error(), list) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

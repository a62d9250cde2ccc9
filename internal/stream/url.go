package stream

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

const (
	masked     = "***"
	schemeMark = "://"
)

// DefaultURL is the server that an empty [Config.URL] means.
const DefaultURL = "nats://127.0.0.1:4222"

// RedactURL returns a URL, or a comma-separated list of them, fit for logs and
// errors: passwords and tokens become ***, and the query is left out. It works
// on text that is no valid URL too, and then hides more rather than less.
func RedactURL(list string) string {
	parts := strings.Split(list, ",")
	for i, p := range parts {
		parts[i] = redactOne(strings.TrimSpace(p))
	}
	return strings.Join(parts, ",")
}

func redactOne(raw string) string {
	if raw == "" {
		return ""
	}
	scheme, rest, ok := strings.Cut(raw, schemeMark)
	if !ok {
		scheme, rest = "", raw
	} else {
		scheme += schemeMark
	}
	u, err := parseURL(raw)
	if err == nil {
		at := ""
		if u.User != nil {
			at = masked + "@"
			// A user without a password may be a token, so only a user with one is shown.
			if _, has := u.User.Password(); has {
				at = url.User(u.User.Username()).String() + ":" + masked + "@"
			}
		}
		path := u.EscapedPath()
		if strings.Contains(path, "@") { // a password with an unescaped slash reads as a path
			return scheme + masked + "@" + rest[strings.LastIndexByte(rest, '@')+1:]
		}
		return scheme + at + u.Host + path
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		host, _, _ := strings.Cut(rest[i+1:], "?")
		return scheme + masked + "@" + host
	}
	// It may be one half of a password that holds a comma.
	return scheme + masked
}

// parseURL parses one server URL, scheme optional as nats.go has it. Its
// errors say what is wrong in words that hold nothing of the text.
func parseURL(raw string) (*url.URL, error) {
	full := raw
	if !strings.Contains(full, schemeMark) {
		full = "nats" + schemeMark + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return nil, errors.New("it is not a URL (the port must be a number, special characters in a password percent-encoded)")
	}
	if u.Hostname() == "" {
		return nil, errors.New("it has no host")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("its port is not 1 to 65535")
		}
	}
	return u, nil
}

// inURL reports whether credentials stand in a URL, which is well-formed.
func inURL(raw string) bool {
	u, err := parseURL(raw)
	return err == nil && u.User != nil
}

// parseURLs splits a comma-separated list of NATS URLs and checks each.
func parseURLs(list string) ([]string, error) {
	if strings.TrimSpace(list) == "" {
		list = DefaultURL
	}
	parts := strings.Split(list, ",")
	urls := make([]string, 0, len(parts))
	websocket := 0
	for i, p := range parts {
		p = strings.TrimSpace(p)
		fail := func(why any) error {
			return fmt.Errorf("NATS URL %d of %d, %q, is malformed: %v; write it as nats://host:4222", i+1, len(parts), redactOne(p), why)
		}
		if p == "" {
			return nil, fail("it is empty")
		}
		u, err := parseURL(p)
		if err != nil {
			return nil, fail(err)
		}
		switch u.Scheme {
		case "nats", "tls":
		case "ws", "wss":
			websocket++
		default:
			return nil, fail("its scheme is not one of nats, tls, ws, wss")
		}
		urls = append(urls, p)
	}
	if websocket != 0 && websocket != len(urls) {
		return nil, errors.New("NATS URLs mix ws or wss with nats or tls: use one kind for all of them")
	}
	return urls, nil
}

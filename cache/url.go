package cache

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

const (
	redisPort    = "6379"
	sentinelPort = "26379"
	masked       = "***"
)

type mode int

const (
	standalone mode = iota
	cluster
	sentinel
)

// target is what a URL says.
type target struct {
	mode                           mode
	scheme                         string
	addrs                          []string // host:port
	tls                            bool
	user, password                 string
	db                             int
	master                         string
	sentinelUser, sentinelPassword string
}

// String is the URL without secrets.
func (t target) String() string {
	at, path := "", ""
	if t.user != "" || t.password != "" {
		at = url.User(t.user).String() + ":" + masked + "@"
	}
	if t.mode == sentinel {
		path = "/" + t.master
	}
	if t.db != 0 {
		path += "/" + strconv.Itoa(t.db)
	}
	return t.scheme + "://" + at + strings.Join(t.addrs, ",") + path
}

// CheckURL reports what is wrong with a Redis URL (see [Config]), in one line
// without its secrets. The empty URL is [DefaultURL].
func CheckURL(raw string) error {
	_, err := parseURL(raw)
	return err
}

// RedactURL returns a Redis URL fit for logs: without password and query. Of
// what is no valid URL it shows nothing but the scheme.
func RedactURL(raw string) string {
	t, err := parseURL(raw)
	if err == nil {
		return t.String()
	}
	if scheme, _, ok := strings.Cut(raw, "://"); ok {
		if _, known := modeOf(scheme); known {
			return scheme + "://" + masked
		}
	}
	return masked
}

func modeOf(scheme string) (mode, bool) {
	switch scheme {
	case "redis", "rediss":
		return standalone, true
	case "redis+cluster", "rediss+cluster":
		return cluster, true
	case "redis+sentinel", "rediss+sentinel":
		return sentinel, true
	}
	return 0, false
}

// parseURL reads a URL. Its errors name what is wrong and show nothing of the
// text, since a misplaced character makes any part of it the password.
func parseURL(raw string) (target, error) {
	if strings.TrimSpace(raw) == "" {
		raw = DefaultURL
	}
	t, err := parseTarget(strings.TrimSpace(raw))
	if err != nil {
		return target{}, fmt.Errorf("malformed Redis URL: %w; write it as redis://[user:password@]host:6379/0, redis+cluster://h1,h2,h3 or redis+sentinel://h1,h2,h3/master", err)
	}
	return t, nil
}

func parseTarget(raw string) (target, error) {
	var t target
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return t, errors.New("it has no scheme")
	}
	if t.mode, ok = modeOf(scheme); !ok {
		return t, errors.New("its scheme is not one of redis, rediss, redis+cluster, rediss+cluster, redis+sentinel, rediss+sentinel")
	}
	t.scheme, t.tls = scheme, strings.HasPrefix(scheme, "rediss")

	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if strings.Contains(path, "@") {
		return t, errors.New("there is an @ after the hosts; percent-encode / ? # and @ in user and password")
	}
	path, fragment, _ := strings.Cut(path, "#")
	path, query, _ := strings.Cut(path, "?")
	if fragment != "" {
		return t, errors.New("it has a fragment")
	}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		hosts = authority[i+1:]
		user, password, _ := strings.Cut(authority[:i], ":")
		var err1, err2 error
		t.user, err1 = url.PathUnescape(user)
		t.password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return t, errors.New("user or password has a bad percent-encoding")
		}
		if t.user != "" && t.password == "" {
			return t, errors.New("there is a user without a password; a password alone is written :password@")
		}
	}
	if err := t.setHosts(hosts); err != nil {
		return t, err
	}
	if err := t.setPath(path); err != nil {
		return t, err
	}
	return t, t.setQuery(query)
}

func (t *target) setHosts(list string) error {
	parts := strings.Split(list, ",")
	if t.mode == standalone && len(parts) > 1 {
		return errors.New("it has several hosts; that takes redis+cluster or redis+sentinel")
	}
	for i, p := range parts {
		host, port, err := hostPort(strings.TrimSpace(p))
		if err != nil {
			return fmt.Errorf("host %d of %d %w", i+1, len(parts), err)
		}
		if port == "" {
			port = redisPort
			if t.mode == sentinel {
				port = sentinelPort
			}
		}
		t.addrs = append(t.addrs, net.JoinHostPort(host, port))
	}
	return nil
}

func hostPort(s string) (host, port string, err error) {
	if s == "" {
		return "", "", errors.New("is empty")
	}
	u, err := url.Parse("x://" + s)
	if err != nil || u.Host != s {
		return "", "", errors.New("is neither a host nor host:port")
	}
	if host = u.Hostname(); host == "" {
		return "", "", errors.New("has no name")
	}
	if port = u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "", "", errors.New("has a port that is not 1 to 65535")
		}
	}
	return host, port, nil
}

func (t *target) setPath(path string) error {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "" {
		parts = parts[1:]
	}
	if t.mode == sentinel {
		if len(parts) == 0 {
			return errors.New("the name of the sentinels' master is missing after the hosts")
		}
		master, err := url.PathUnescape(parts[0])
		if err != nil {
			return errors.New("the name of the sentinels' master has a bad percent-encoding")
		}
		t.master, parts = master, parts[1:]
	}
	switch {
	case len(parts) == 0:
		return nil
	case len(parts) > 1:
		return errors.New("its path has too many parts")
	case t.mode == cluster:
		return errors.New("a Cluster has no databases to choose from")
	}
	db, err := strconv.Atoi(parts[0])
	if err != nil || db < 0 {
		return errors.New("its database is not a number from 0 up")
	}
	t.db = db
	return nil
}

func (t *target) setQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("its query has a bad encoding")
	}
	for name, v := range values {
		switch {
		case t.mode == sentinel && name == "sentinel_user":
			t.sentinelUser = v[0]
		case t.mode == sentinel && name == "sentinel_password":
			t.sentinelPassword = v[0]
		default:
			return errors.New("it has an unknown parameter (with redis+sentinel there are sentinel_user and sentinel_password)")
		}
	}
	return nil
}

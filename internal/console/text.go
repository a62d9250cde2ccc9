package console

import (
	"maps"
	"slices"
	"strings"
)

// quote makes an argument of a shell of a session id.
func quote(s string) string {
	if s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:@-") == "" && s[0] != '-' {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func sortedNames(headers map[string][]string) []string { return slices.Sorted(maps.Keys(headers)) }

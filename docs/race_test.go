//go:build race

package docs_test

func init() { buildFlags = append(buildFlags, "-race") }

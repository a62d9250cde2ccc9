// Package plural writes numbers of things as they are read: 1 turn, 2 turns.
package plural

import "strconv"

// Of is a number of things, whose noun is given in the singular.
func Of[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.FormatInt(int64(n), 10) + " " + noun + "s"
}

// Verb is the form of a verb that goes with a number of things.
func Verb[N int | int64 | uint64](n N, one, several string) string {
	if n == 1 {
		return one
	}
	return several
}

// Are is "is" or "are".
func Are[N int | int64 | uint64](n N) string { return Verb(n, "is", "are") }

// Were is "was" or "were".
func Were[N int | int64 | uint64](n N) string { return Verb(n, "was", "were") }

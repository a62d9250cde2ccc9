// Package status looks at everything afterword depends on and says what is wrong.
//
// The contract: [Gatherer.Gather] always answers, within its bound, with a [Report] for
// programs and people: figures of NATS, the groups, the dead letters, Redis and the
// transcripts of this machine, and a list of checks, the worst first. A check says what was found
// and, unless that is fine, which command helps. Nothing is changed.
//
// On failure: what cannot be reached is a check that says so, never an error. What an
// outsider cannot know is named as such; no check passes on a guess. No session, no text
// and no password is in a report.
package status

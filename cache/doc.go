// Package cache holds recent histories in Redis and answers where a session's
// history can be had.
//
// [Redis] keeps, for every session, what was true of its transcript at some
// moment, or nothing. One script writes both keys of a session, with a time to
// live, and only when the transcript they describe is not older than the one
// that is there (see [transcript.Version]). So a write that lands late, runs
// twice or comes from a slower process changes nothing. [Refresher] writes the
// sessions that have changed, from the store, after they were acknowledged;
// [History] reads: Redis, then the transcript file, then the stream, then none.
//
// The keys (a wire contract, both in one Cluster slot, both with the same TTL):
//
//	chat:conversation:<session_id>
//	    string: JSON array of the last 10 answered turns, oldest first, each
//	    exactly {"user":…,"assistant":…}
//	afterword:recent:{chat:conversation:<session_id>}
//	    hash: "version" = erased-through, last timestamp (µs), last id and sum
//	    of rev, in decimal, separated by one space; "turns" = the same turns
//	    whole, as canonical events, one per line; "mac" = the HMAC-SHA-256 of
//	    session, version and turns with [Config.Key], in base64
//
// What is not signed with the key is a miss ([ErrForged]), and the next write replaces it whatever
// version it claims. Redis moves no clock. [Shared] tells the processes that share a Redis the key,
// and with which sessions it is behind; those are not read from it.
//
// A transcript without answered turns is cached as the empty array that it is.
// A session id with a brace would break the slot and is never cached ([Cacheable]).
// All processes that share a Redis use the same Limit.
//
// On failure: every operation ends within OpTimeout, even if the client does
// not return. A timeout or an error is an error, never a miss, and nothing read
// on the way of one is ever written. Reads and writes have a circuit breaker each. It
// opens after a few failures in a row, or at once when Redis refuses a write, and
// operations then fail at once with [ErrUnavailable] and what Redis said; a check in the
// background, not a user's request, finds out when Redis works again, and
// [Redis.OnRecover] tells. A value that does not parse is [ErrCorrupt] and is
// replaced. The breakers are for all nodes: while one node of a Cluster hangs,
// its sessions wait out the client's timeouts until the Cluster has replaced it.
//
// A write is refused while Redis holds a newer version, so a transcript whose
// version goes down without an erasure (a folder restored from a backup, a
// snapshot of the last turn that wins with an earlier timestamp) is cached again
// when it has caught up or the TTL is over.
package cache

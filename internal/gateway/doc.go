// Package gateway answers HTTP: it takes turns in for a publisher, and shows
// histories, transcripts and what became of a turn.
//
// # Contract
//
//	POST /v1/sessions/{id}/turns         one turn, 202; "Prefer: wait=N" for 201 once stored
//	POST /v1/turns                       many turns of any sessions, one a line
//	GET  /v1/sessions/{id}/history       ?limit=10 (1 to 1000)
//	GET  /v1/sessions/{id}/transcript    the merged document
//	GET  /v1/sessions/{id}/turns/{turn}  the turn and its level; ?rev=N for that revision or a newer one
//	GET  /v1/sessions                    ?prefix= &cursor= &limit=100 (1 to 1000)
//	GET  /v1/events                      turns as they are stored, as server-sent events; ?session= &prefix= &after= &limit=
//	GET  /healthz /readyz /metrics /openapi.json
//
// A [httpio.Guard] stands in front of every path: 421 for another host, 403 for a page of another origin.
//
// An {id} is one percent-encoded path segment and any session id whatever, so
// paths are never cleaned and never redirected: "..", "a%2Fb" and "*" are ids.
// A POST touches neither network nor disk unless it asks to wait. A body is
// read losslessly; it may be as long as the payload limit, white space and
// escapes included.
//
// Every error is a problem document (RFC 9457) with one of these: 400 for what
// is not acceptable JSON, a bad id or a bad query; 404; 405 with Allow; 413; 415; 422
// for a well-formed turn that breaks a rule, naming its member; 501 for what this
// gateway has no source for; 503 with Retry-After. Only what net/http does not
// take for HTTP at all (a malformed escape, headers too long) is refused in its words.
//
// # Behaviour on failure
//
// A full or closed publisher is 503: nothing was accepted, or of a batch what its answer says.
// A request with an Idempotency-Key that comes again is the same turn; its timestamp is the same too while
// the key is remembered, and of two timestamps the earlier stays. What cannot be read in
// time is 503, never an empty answer; a history is 200 and says that it is
// degraded. The level of a turn is a lower bound: a source that does not answer
// leaves it at what the others know, and is 503 only when nobody knows the turn.
// /healthz depends on this process alone, /readyz on everything it needs.
//
// A client of events that is too slow is told what it missed, and one that takes
// nothing at all is cut off; neither holds up others. While the stream cannot be read events
// wait, and heartbeats say so.
//
// Nothing of what people wrote, and no session id, is logged or counted: one line
// per failed request, with the session's token.
package gateway

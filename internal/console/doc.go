// Package console is a page for people who operate afterword, and the JSON behind
// it: what is wrong, how far consumers are, sessions, dead letters, replays, and turns
// as they come.
//
// # Contract
//
// Everything is under <base>/console/. The page is plain HTML, CSS and JavaScript
// that is embedded here; it asks nobody else for anything, which its content security
// policy holds it to. Its own addresses are relative, so a proxy may keep the base path
// or cut it off.
//
//	GET  api/overview            ?since=MS: what is wrong, streams, groups, members, samples
//	GET  api/sessions            ?prefix= &cursor= &limit=
//	GET  api/transcript          ?session= &before= &limit= &text=1
//	GET  api/agreement           ?session=: file, stream and Redis compared
//	GET  api/letters             ?kind= &limit=: dead letters, the newest first
//	GET  api/letters/{seq}       ?text=1
//	POST api/letters/requeue     {"seqs":[…]} or {"kind":…,"until":N}
//	POST api/letters/discard     the same
//	GET  api/replays
//	POST api/replays             {"session":…} or {"all":true,"since":…,"rate":N}
//	POST api/replays/{id}/cancel
//	GET  api/tail                ?prefix= &text=1: server-sent events
//
// What people wrote is in an answer only when text=1 asks for it. An answer has a
// bound in size and in time, and every error is a problem document (RFC 9457).
//
// There is no access control. What changes something is refused when the console is
// read-only, and when it is not JSON. Requests for another host, or of a page of another site, do
// not get here: [httpio.Guard] refuses them, also those of origins that may use the API.
//
// # Behaviour on failure
//
// What is known is shown with its age. A server that does not answer is an error of
// that answer, said in words, never an empty list.
package console

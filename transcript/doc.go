// Package transcript holds turns of conversations and keeps them in files.
//
// A turn is one exchange: what the user said and what the assistant answered.
// A [Snapshot] is a turn at one moment, in its one canonical encoding. Of two
// snapshots with the same session and id [Snapshot.Beats] names the winner, and
// a transcript is the set of winners ordered by (timestamp, id). That merge is
// commutative, associative and idempotent: the same snapshots give the same
// bytes, whatever the order, the batches and the repetitions in which they came.
//
// A [Store] keeps one document and one tail per session. [Store.Append] returns
// when its turns are durable; a fold merges the tail into the document in the
// background and replaces it atomically. A reader takes the tail, then the
// document, and merges: it needs no lock and sees every turn that was committed.
//
// A read that fails or is late is an error, never an empty transcript, and no
// document is ever written from a base that was not read whole and valid.
package transcript

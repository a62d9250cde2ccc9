// Package consumer takes turns from the stream and puts them into transcripts.
//
// A [Consumer] is one member of a group: one durable pull consumer, shared by
// all members, whose turns go into one transcripts folder. It fetches a batch,
// groups it by session, appends each session's turns to its tail in one write,
// makes the batch durable with one sync, and only then acknowledges. While one
// batch is made durable the next is written, and a third is fetched and decoded.
// Order does not matter and repetitions do no harm: a transcript is a merge.
//
// On failure: a message that can never be processed goes to the dead-letter
// stream with its reason, first, and is then terminated. When the environment is
// at fault (a full, read-only or hung disk) the batch is given back once,
// fetching stops, [Consumer.Ready] says why, and a probe with growing delay finds
// out when to go on. One session's file at fault delays that session only; a damaged
// one is set aside and rebuilt from what can be read and the session's events, and
// what neither has is logged by name and counted. A
// failed sync ends [Consumer.Run] with [transcript.ErrFailed]: what was not
// acknowledged comes back to whoever is started next.
//
// [Replay] rebuilds transcripts from the stream and [Verify] compares them.
package consumer

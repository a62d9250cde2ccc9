// Package live shows turns as the stream stores them, to clients that come and go.
//
// The contract: a [Feed] reads the stream once, in its order, however many clients
// listen: from when the first comes until the last leaves. Each [Client] has a
// bounded queue of what it wants and has not taken yet. A client may begin after a
// sequence that it has seen before: what the stream has of that comes first, read for this
// client alone at its own speed and not counted in the queue.
//
// Every [Item] is a turn with its stream sequence, or a gap: turns that this
// client will not get, and how many at most. What is no turn is left out; it is a dead letter.
//
// On failure: a slow client holds up nobody. When its queue is full the oldest turns
// leave it, and a gap says how many. A stream that cannot be reached is an error for who
// comes then; for who is there already it is waited for, and nothing is missed that the stream
// still has by then. What it does not have any more, and a stream that was made again, are gaps.
package live

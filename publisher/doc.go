// Package publisher takes turns out of the response path: it accepts a turn in
// memory, returns, and brings it to the stream afterwards. It may keep it on disk until then.
//
// # Contract
//
// [Publisher.Publish] validates a turn, gives it an id and a timestamp if it has
// none, encodes it and puts it into a bounded buffer. It touches neither network
// nor disk and never waits for either; it does not look at its context's
// deadline, because a turn belongs to the transcript even when its client has
// gone. Its error is one of: what [transcript.Malformed] recognises (the turn is at
// fault), [ErrOverflow] (the buffer is full), [ErrClosed], or [ErrClock]. With an error nothing was accepted; without one the turn is
// [Buffered], and the [Receipt] says when it is [Stored].
//
// Timestamps of one session come from a hybrid logical clock: the wall clock, but
// at least a microsecond after every timestamp of the session that was
// published or observed ([Publisher.Observe]). Order within a session therefore
// survives clocks that step. A turn that is dated more than an hour ahead of the wall clock moves
// it by that hour only, so that one wrong date does not move all later turns. A timestamp that the
// caller supplies is kept as it is; one more than [transcript.MaxAhead] ahead is refused, as a completed_at is.
//
// [Publisher.Pending] gives the turns of a session that were accepted and perhaps
// cannot be read elsewhere yet, so that the user's next question sees the last
// answer even when consumers lag.
//
// # How turns travel
//
// A turn that finds nothing in flight is sent at once, by itself. Turns that come while
// others are in flight wait for them, at most 2 ms, and leave together: from 16 on as one
// atomic batch, which the server stores with one fsync. A batch is stored whole or not
// at all. When it is refused (a turn in it is a duplicate, or at fault), or its
// acknowledgement is lost, its turns are sent again one by one, and each has its own result.
// Where the stream takes no atomic batches, turns are sent one by one; batches are tried again
// after a minute, or a reconnect.
//
// # Behaviour on failure
//
// A turn stays in the buffer until the stream has acknowledged it. Whatever
// fails is tried again with the same payload and the same message id, so that the
// server drops a repetition and the merge absorbs the rest: a lost connection, an
// acknowledgement that does not come, a missing or full stream, a cluster without a leader.
// While nothing gets through, one turn at a time is tried, with jittered
// exponential backoff; the first acknowledgement opens the full window again,
// and a reconnect starts the backoff anew. The turns that are accepted meanwhile
// wait in the buffer; when that is full, Publish refuses with [ErrOverflow] at once.
//
// A turn that the server refuses while it takes others (its max_payload was lowered
// after the turn was accepted, for example) never gives up its place in the buffer: it is set aside,
// tried again with a backoff of its own, logged as an error once, counted in [Stats], and its reason is in
// [Receipt.Err]. It holds up no other turn.
//
// Kill -9 loses what is only buffered. [Publisher.Close] drains, and says how many
// turns were left when its context ended first, and how many of these are spooled.
//
// # The spool
//
// With [Config.SpoolDir] a second goroutine, which alone touches the disk, keeps what is not
// stored after 5 ms in segments of checksummed lines, with one fsync for all that came
// meanwhile. Then a turn is [Spooled]: kill -9 and power cuts do not lose it, and the next
// publisher with that folder publishes it, with the same payload and message id. A
// segment is removed when all of it is stored.
//
// While the buffer is more than half full, spooled turns that were not sent yet leave
// memory, the oldest first, and come back when the stream takes turns. Those are not in [Publisher.Pending]
// ([Publisher.Away] counts them). Their trace context is not kept. [Config.SpoolMaxBytes] bounds the files; past
// it turns are only buffered, and then refused.
//
// A disk that is full, fails or hangs keeps turns from being spooled, and holds up nothing else. After
// a failed write or fsync, a segment is never written again; its turns go to a new one. A
// torn end is cut off. A line that does not check is logged, and its segment set aside as
// <name>.corrupt-<time> once all else in it is stored.
//
// A folder has one publisher at a time; a second one, a folder that others may look into,
// and symbolic links are refused.
package publisher

// Package tracing makes spans of the way of a turn, and sends them to a collector.
//
// The contract: a request of the chat service, the publishing of its turn, the commit
// of the turn to its transcript and the refresh of the cache are spans of one trace, whose
// context travels in the message's header. A batch of the consumer is a span of its own,
// linked to the spans of its turns. Spans hold no text, no session and no turn id: a
// turn is found by its sequence in the stream.
//
// On failure: spans are dropped, and nothing else happens. Ending a span puts it into a bounded
// queue and returns; when the queue is full it is lost. A collector that fails or hangs is
// logged once, and once when it takes spans again. [Tracing.Shutdown] sends what is
// queued, within its context.
package tracing

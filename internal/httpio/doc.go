// Package httpio is what every HTTP listener of afterword has in common: who may ask, what
// an error looks like, how paths are taken apart, and how a request ends that was refused.
//
// # Contract
//
// A [Guard] stands in front of every listener and every route. In this order it refuses
//
//   - 421, a request for a host that is not this server's: a page whose name was pointed at this
//     address (DNS rebinding) gets nothing. Loopback names and addresses are this server's, so is the
//     literal address that the connection came in on, and so are the hosts that were named;
//   - 421, a request that came through a proxy, unless the host that the proxy answers for was named;
//   - 403, a request that a page of another origin sent, reading or writing, unless that origin may
//     use the path.
//
// Every error is a problem document (RFC 9457). [Drain] takes what a client still sends after it was
// refused, so that the refusal reaches it instead of a reset of the connection.
package httpio

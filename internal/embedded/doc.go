// Package embedded holds the servers that stand in when no URL is given: a NATS
// server that syncs every message before it acknowledges it, and a
// Redis-compatible cache in memory. Both listen on loopback only, on one port each, and require
// credentials of every client: other users of the machine reach loopback too.
//
// It is a package of its own so that a program which only publishes does not
// carry two servers.
package embedded

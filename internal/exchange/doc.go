// Package exchange converts conversations between the formats in which other programs keep them
// and turns.
//
// A format is one file: how it is recognised, how its messages are read, how they are written.
// All formats meet in [message]: what one participant said. Messages become turns in fold.go, and
// turns become messages again in unfold.go.
//
// A turn begins with a message of the user, or with the system messages before it, and takes what
// the assistant and the tools say until the next one. Texts of one role are joined with an empty
// line between them; where that is not plain from the turn itself, its member meta.messages says
// which bytes are of which message, so that an export has the same messages again. System messages
// are in meta.system of the turn that follows them. What a message has beside that is in
// meta.messages too, and what the conversation has is in meta.conversation of its first turn.
//
// Formats have no place for all that a turn has. An export therefore has a member "afterword"
// beside the messages, never in them, and an import that finds it makes the same turns again. The
// texts always come from the messages.
//
// What is not understood is refused with a [FormatError], which names the place and what is
// expected there, and never what was said.
package exchange

// Package acceptance proves the promises on the real thing: the built binary as
// processes of its own, a real nats-server, real Redis servers, and files as
// any program sees them. There is nothing in it but tests.
//
// What is expected comes from a renderer of a few lines (render_test.go) that
// knows the document format and shares no code with the product: it parses JSON
// lines with encoding/json, keeps the winner of each turn, sorts and prints.
//
// Every test prints its figures, and the seed of what is random in it. Sizes are
// such that all of it takes a few minutes on two cores with -race; -args -full
// runs the sizes of the acceptance list, -args -seed N repeats a run.
package acceptance

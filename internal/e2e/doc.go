// Package e2e tests what is delivered as whoever runs it meets it: units,
// packages, pages in a browser, clients in other languages. Its tests need
// programs that the other tests do not, so they have a build tag, e2e, and a
// command of their own, make e2e, which installs those programs.
package e2e

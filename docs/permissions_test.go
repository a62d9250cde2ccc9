package docs_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// roles are those of deploy/nats/permissions.conf, as the page names them.
var roles = []string{"gateway", "consumer", "operator", "publisher"}

// The page lists what deploy/nats/permissions.conf lets each role publish to, and says what it
// subscribes to.
func TestPermissionsOfThePage(t *testing.T) {
	of := make(map[string]string) // role by its nkey
	for _, role := range roles {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		of[public] = role
		t.Setenv("AFTERWORD_"+strings.ToUpper(role)+"_NKEY", public)
	}
	opts, err := server.ProcessConfigFile(filepath.Join(root, "deploy", "nats", "permissions.conf"))
	if err != nil {
		t.Fatal(err)
	}
	subjects, except := make(map[string][]string), make(map[string][]string)
	text := page(t, operations)
	for _, user := range opts.Nkeys {
		role, allowed := of[user.Nkey], user.Permissions
		for _, s := range allowed.Publish.Allow {
			subjects[s] = append(subjects[s], role)
		}
		for _, s := range allowed.Publish.Deny {
			except[s] = append(except[s], role)
		}
		if end := " | `" + strings.Join(allowed.Subscribe.Allow, "`, `") + "` |\n"; !strings.Contains(text, end) {
			t.Errorf("%s does not say that %s subscribes to %s", operations, role, allowed.Subscribe.Allow)
		}
		if answers := allowed.Response != nil; answers != (role == "consumer") {
			t.Errorf("may %s answer? %v", role, answers)
		}
	}
	var want strings.Builder
	want.WriteString("\n| subject | " + strings.Join(roles, " | ") + " |\n|---|---|---|---|---|\n")
	for _, s := range slices.Sorted(maps.Keys(subjects)) {
		row(&want, s, subjects[s], "yes")
	}
	for _, s := range slices.Sorted(maps.Keys(except)) {
		row(&want, s, except[s], "never")
	}
	want.WriteString("\n")
	if got := between(t, operations, "permissions", want.String()); got != want.String() {
		t.Errorf("the permissions of %s are not those of deploy/nats/permissions.conf; run: go test ./docs -update", operations)
	}
}

func row(w *strings.Builder, subject string, who []string, word string) {
	fmt.Fprintf(w, "| `%s` |", subject)
	for _, role := range roles {
		if slices.Contains(who, role) {
			w.WriteString(" " + word)
		}
		w.WriteString(" |")
	}
	w.WriteString("\n")
}

package console

import (
	"fmt"
	"regexp"

	"github.com/afterword-io/afterword/internal/status"
)

// trouble is something that is wrong, and what helps.
type trouble struct {
	Level   status.Level `json:"level"`
	Name    string       `json:"name"` // of the check, and what it is of
	What    string       `json:"what"`
	Command string       `json:"command,omitempty"` // that tells more or helps
	Hint    string       `json:"hint,omitempty"`    // what to do, where a command does not say it all
	View    string       `json:"view,omitempty"`    // of the console, that shows it
}

// viewOf says where more is to be seen.
func viewOf(check string) string {
	switch check {
	case status.CheckDead:
		return "letters"
	case status.CheckConsumers, status.CheckLag, status.CheckRetention, status.CheckRedeliver:
		return "consumers"
	}
	return ""
}

// commands finds the command in what a check says to do.
var commands = regexp.MustCompile(`^(afterword( [a-z]+){1,2}( --[a-z-]+( [^ ;,]+)?)*|curl [^ ;,]+)`)

// troubles says what is wrong, the worst first.
func troubles(k *known) []trouble {
	list := []trouble{}
	for _, c := range k.report.Checks {
		if c.Level == status.OK {
			continue
		}
		t := trouble{Level: c.Level, Name: c.Name, What: c.Found, Command: commands.FindString(c.Do), View: viewOf(c.Name)}
		if c.Of != "" {
			t.Name += " of " + c.Of
		}
		if c.Do != t.Command {
			t.Hint = c.Do
		}
		list = append(list, t)
	}
	if k.state == nil {
		return list
	}
	for _, g := range k.state.Groups {
		for _, m := range g.Members {
			if m.NotReady != "" {
				list = append(list, trouble{Level: status.Warning, View: "consumers", Name: "member of " + g.Name,
					What: fmt.Sprintf("%s takes no turns: %s", m.Host, m.NotReady)})
			}
		}
	}
	return list
}

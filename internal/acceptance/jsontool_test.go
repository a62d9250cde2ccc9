package acceptance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// jsonToolLoop runs the module json.tool, as python3 -m json.tool does, for each path that it is told, and
// answers with a line: the file in compact form, or what is wrong with it.
const jsonToolLoop = `
import contextlib, io, runpy, sys

class Text(io.StringIO):
    def close(self): pass # json.tool closes what it writes to

sys.stdout.reconfigure(encoding="utf-8")
for line in sys.stdin:
    sys.argv = ["json.tool", "--compact", "--no-ensure-ascii", line.rstrip("\n")]
    out = Text()
    answer = "ok"
    with contextlib.redirect_stdout(out):
        try:
            runpy.run_module("json.tool", run_name="__main__", alter_sys=True)
        except (Exception, SystemExit) as e:
            answer = "bad " + repr(e)
    print(answer, "" if answer != "ok" else out.getvalue().rstrip("\n"), flush=True)
`

// jsonTool reads files with Python's json.tool, all of them in one process: Python takes much longer to start than
// to read a document.
type jsonTool struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startJSONTool(python string) (*jsonTool, error) {
	j := &jsonTool{cmd: exec.Command(python, "-c", jsonToolLoop)}
	var err error
	if j.in, err = j.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := j.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	j.out = bufio.NewReader(out)
	return j, j.cmd.Start()
}

// read returns what json.tool makes of a file.
func (j *jsonTool) read(path string) (string, error) {
	if _, err := io.WriteString(j.in, path+"\n"); err != nil {
		return "", err
	}
	line, err := j.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("python3 -m json.tool ends: %w", err)
	}
	text, ok := strings.CutPrefix(line, "ok ")
	if !ok {
		return "", errors.New(strings.TrimSpace(line))
	}
	return text, nil
}

func (j *jsonTool) close() {
	j.in.Close()
	_ = j.cmd.Wait()
}

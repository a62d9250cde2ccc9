package main

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: what is written to tty is read from screen.
func openTerminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return screen, tty
}

// readUntil reads a screen until what it has shown is enough.
func readUntil(t *testing.T, screen *os.File, enough func(shown []byte) bool) (shown []byte) {
	t.Helper()
	for b := make([]byte, 4096); !enough(shown); {
		n, err := screen.Read(b)
		if err != nil {
			t.Fatalf("%v after %q", err, shown)
		}
		shown = append(shown, b[:n]...)
	}
	return shown
}

func TestMeter(t *testing.T) {
	screen, tty := openTerminal(t)
	m := (&cli{stderr: tty}).meter("turns stored")
	m.set(500, 1000)
	shown := readUntil(t, screen, func(shown []byte) bool {
		return bytes.Contains(shown, []byte("ETA")) && bytes.Contains(shown, []byte("/s")) && bytes.Contains(shown, []byte("50.00%"))
	})
	m.stop()
	m.stop()
	if !bytes.Contains(shown, []byte("turns stored")) {
		t.Errorf("%q", shown)
	}
}

func TestNoMeter(t *testing.T) {
	var b bytes.Buffer
	m := (&cli{stderr: &b}).meter("turns")
	m.set(1, 2)
	m.stop()
	if b.Len() > 0 {
		t.Errorf("%q", b.String())
	}
}

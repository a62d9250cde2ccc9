package publisher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
	"weak"

	"golang.org/x/sys/unix"
)

const (
	segmentSuffix = ".seg"
	segmentDigits = 12
	spoolLock     = ".lock"

	maxSegment     = 8 << 20
	segmentsAtFull = 8 // of a spool that is smaller than that
)

// segment is one file of the spool: checksummed lines, one a turn, in the order in
// which they were written. Lines and their counts are guarded by the buffer's lock;
// everything else belongs to the spool's goroutine.
type segment struct {
	name    string
	at      time.Time // when its first turn was accepted, or about then
	file    *os.File  // of the current segment; others are opened to be read
	size    int64     // up to where its lines are good and durable
	onDisk  int64     // at least size: more after a failed write
	damaged bool      // has lines that cannot be read: kept aside, not removed
	until   time.Time // not read before; set when reading failed

	lines    []line
	unstored int // lines
	away     int // lines that are not in memory
	first    int // no line before this one is away
}

// line is one turn in a segment.
type line struct {
	from    int64
	size    int32 // with checksum and newline
	state   lineState
	receipt weak.Pointer[Receipt] // of a turn that left memory: raised as long as somebody keeps it
}

type lineState int8

const (
	inMemory lineState = iota
	isAway
	isDone // stored, or lost
)

func segmentName(number uint64) string {
	return fmt.Sprintf("%0*d%s", segmentDigits, number, segmentSuffix)
}

// segmentNumber reads what segmentName made, also at the beginning of what was set aside.
func segmentNumber(name string) (number uint64, whole, ok bool) {
	digits, rest, found := strings.Cut(name, segmentSuffix)
	if !found || len(digits) < segmentDigits || rest != "" && !strings.HasPrefix(rest, asideInfix) {
		return 0, false, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, rest == "", err == nil
}

const asideInfix = ".corrupt-"

// asideName is what a damaged segment is kept as.
func asideName(name string, now time.Time) string {
	return name + asideInfix + now.UTC().Format("20060102T150405.000000Z")
}

// openSpoolFile opens a file of the spool, and refuses what is not a regular one at
// its own path: a link could lead a write anywhere.
func openSpoolFile(root *os.Root, name string, flag int) (*os.File, fs.FileInfo, error) {
	at, err := root.Lstat(name)
	if err == nil && !at.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a regular file: move it out of the spool folder", name)
	}
	f, err := root.OpenFile(name, flag|unix.O_NONBLOCK, 0o600) // never wait for the other end of a pipe
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		at, err = root.Lstat(name)
	}
	if err == nil && (!info.Mode().IsRegular() || !os.SameFile(at, info)) {
		err = fmt.Errorf("%s was replaced while it was opened", name)
	}
	if err == nil && info.Mode().Perm() != 0o600 { // whatever the umask
		err = f.Chmod(0o600)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// close closes the file, if it is open. What matters was synced before.
func (g *segment) close() {
	if g.file != nil {
		g.file.Close()
		g.file = nil
	}
}

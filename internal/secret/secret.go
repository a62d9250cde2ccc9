// Package secret keeps secrets in files that only their owner may read.
//
// A secret that no setting gives is made by the first process that needs it, and is the same
// for every later one: a file is created whole, synced, and never overwritten with another
// secret. A file that the owner is not alone with, or that is damaged, is an error that says
// what to do; no new secret takes its place, because what was signed or locked with the old
// one would be lost without a word.
//
// No error of this package shows what a file holds.
package secret

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/folder"
)

const (
	// Size is the length of a key, in bytes: 256 bits cannot be guessed.
	Size = 32

	private = 0o600
	// maxBytes bounds what is read; larger than every secret, so a larger file is none.
	maxBytes = 64 << 10
)

// encoding needs no quotes in URLs, shells and file names.
var encoding = base64.RawURLEncoding.Strict()

// Text is new random text: 256 bits as 43 letters, digits, "-" and "_".
func Text() string {
	key := make([]byte, Size)
	rand.Read(key) // never fails
	return encoding.EncodeToString(key)
}

// Key returns the [Size] bytes that a file holds, as base64url in one line. A file that is
// missing is created with new ones, and so are the folders above it. Several processes may
// ask at one time: all get the same key.
func Key(file string) ([]byte, error) {
	b, err := Make(file, []byte(Text()+"\n"))
	if err != nil {
		return nil, err
	}
	key, err := encoding.DecodeString(strings.TrimSuffix(string(b), "\n"))
	if err != nil || len(key) != Size {
		return nil, fmt.Errorf("secret file %s is damaged: it does not hold a key of %d bytes: bring it back from a backup, or move it away for a new one", file, Size)
	}
	return key, nil
}

// Make returns what a file holds. If it is missing it is created with content, durably and
// whole; of several processes that do so at one time one wins, and all get its content.
func Make(file string, content []byte) ([]byte, error) {
	b, err := Read(file)
	if !errors.Is(err, fs.ErrNotExist) {
		if err == nil { // whoever made it may have ended before its name was durable
			err = folder.Sync(filepath.Dir(file))
		}
		return b, err
	}
	if err := folder.Make(filepath.Dir(file)); err != nil {
		return nil, fmt.Errorf("create folder of secret: %w", err)
	}
	if err := write(file, content, os.Link); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return Read(file)
}

// Replace replaces what a file holds, atomically and durably. It is for what stands beside a
// secret, which the caller keeps.
func Replace(file string, content []byte) error { return write(file, content, os.Rename) }

// write puts content into a new file, which place gives its name.
func write(file string, content []byte, place func(from, to string) error) error {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*.tmp")
	if err != nil {
		return fmt.Errorf("create secret file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(private), keepOwner(f, dir), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write secret file: %w", err)
	}
	if err := place(f.Name(), file); err != nil {
		return fmt.Errorf("create secret file: %w", err)
	}
	if err := folder.Sync(dir); err != nil {
		return fmt.Errorf("make the name of secret file %s durable: %w", file, err)
	}
	return nil
}

// keepOwner gives a file that root makes to the owner of its folder: the service that the
// folder belongs to has to read it.
func keepOwner(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	return f.Chown(int(st.Uid), int(st.Gid))
}

// Read returns what a file holds. It refuses one that its owner is not alone with (in a volume
// that was handed over with a group, as [folder.HandedOver] says, that group may use it), one of
// another user (for root: of a user whom its folder does not belong to), and what is no
// file. One that is missing is an [fs.ErrNotExist], one that may not be read an
// [fs.ErrPermission].
func Read(file string) ([]byte, error) {
	b, _, err := ReadOwned(file)
	return b, err
}

// ReadOwned is [Read], and says whose file it is.
func ReadOwned(file string) (content []byte, uid int, err error) {
	// A pipe in its place must not keep us waiting.
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, 0, fmt.Errorf("secret file %s is a symbolic link: move the file itself there", file)
	case err != nil:
		return nil, 0, fmt.Errorf("read secret file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("read secret file: %w", err)
	}
	if uid, err = check(file, info); err != nil {
		return nil, 0, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("read secret file: %w", err)
	case len(b) > maxBytes:
		return nil, 0, fmt.Errorf("secret file %s is longer than %d bytes: bring it back from a backup, or move it away for a new one", file, maxBytes)
	}
	return b, uid, nil
}

func check(file string, info fs.FileInfo) (uid int, err error) {
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("secret file %s is not a file: move it away", file)
	}
	st := info.Sys().(*syscall.Stat_t)
	perm, others := info.Mode().Perm(), fs.FileMode(0o077)
	if gid, ok := folder.HandedOver(filepath.Dir(file)); ok && int(st.Gid) == gid {
		others = 0o007 // the group is that of the volume
	}
	if perm&others != 0 {
		return 0, fmt.Errorf("secret file %s may be used by others (mode %#o): `chmod 600` it, or move it away for a new one if others may have read it", file, perm)
	}
	owner, self := int(st.Uid), os.Geteuid()
	if owner == self {
		return owner, nil
	}
	if self == 0 { // root looks after the files of services
		dir, err := os.Stat(filepath.Dir(file))
		if err != nil {
			return 0, fmt.Errorf("read secret file: %w", err)
		}
		if int(dir.Sys().(*syscall.Stat_t).Uid) == owner {
			return owner, nil
		}
	}
	return 0, fmt.Errorf("secret file %s belongs to user %d, this process is of user %d: run it as that user, or move the file away for a new one", file, owner, self)
}

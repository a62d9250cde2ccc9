package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/afterword-io/afterword/internal/folder"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// identityFile makes a folder a transcripts folder.
const identityFile = ".afterword"

// checkpointFile is where a replay that was interrupted has noted how far it came.
const checkpointFile = ".afterword-replay"

// isTranscripts reports whether dir is a transcripts folder; what else there may be
// is for whoever opens it.
func isTranscripts(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, identityFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// checkData refuses a data folder that other users may write, or that is theirs.
func (o *storeOptions) checkData() error {
	if err := folder.Check(o.dir, "transcripts", "spool", "nats"); err != nil {
		return err
	}
	if err := folder.CheckAll(filepath.Join(o.dir, "nats")); err != nil {
		return err
	}
	return folder.CheckIn(o.transcripts(), transcript.Shards()...)
}

// refuseRoot is for folders with files that cannot be given to the owner of the folder: root
// would leave there what the service of that user cannot read.
func refuseRoot(what, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	at, uid, err := folder.Owner(dir)
	if err != nil || uid == 0 {
		return err
	}
	shown := what + " " + dir
	if abs, err := filepath.Abs(dir); err == nil && abs != at { // it is not there yet
		shown, dir = fmt.Sprintf("%s would be in %s, which", what, at), at
	}
	return fmt.Errorf("%s belongs to user %d, who could not read what root leaves there: run afterword as that user, or chown -R root %s", shown, uid, dir)
}

// dataDirError adds what to do about a folder that cannot be used.
func dataDirError(err error) error {
	var newer *transcript.SchemaError
	var errno syscall.Errno
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("%w: run the version that wrote it, or a newer one", err)
	case errors.As(err, &errno):
		return fmt.Errorf("%w: choose a folder that this user can write with --data-dir", err)
	}
	return err
}

// diskTrouble reports whether err is of a disk that is full, read-only or failing,
// which passes, rather than of a folder that is the wrong one.
func diskTrouble(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}

// withTranscripts calls fn with the transcripts folder, opened for reading.
func withTranscripts(ctx context.Context, o storeOptions, fn func(context.Context, *transcript.Store) error) error {
	s, err := transcript.Open(transcript.Config{
		Dir: o.transcripts(), ReadOnly: true, FileTimeout: o.fileTimeout,
		Logger: slog.New(slog.DiscardHandler), // what goes wrong is returned
	})
	if err != nil {
		return fmt.Errorf("%w: give the folder that the consumer writes with --data-dir", err)
	}
	return errors.Join(fn(ctx, s), s.Close(context.WithoutCancel(ctx)))
}

// readTranscripts is withTranscripts for commands whose data may be short: it says so.
func (c *cli) readTranscripts(ctx context.Context, o storeOptions, fn func(context.Context, *transcript.Store) error) error {
	return withTranscripts(ctx, o, func(ctx context.Context, s *transcript.Store) error {
		return errors.Join(c.sayUnread(ctx, s), fn(ctx, s))
	})
}

// sayUnread says what the folder lacks, if anything.
func (c *cli) sayUnread(ctx context.Context, s *transcript.Store) error {
	lacks, err := s.Unread(ctx)
	if err != nil || lacks == nil {
		return err
	}
	them := plural.Verb(lacks.Messages, "it", "them")
	fmt.Fprintf(c.stderr, "turns may be missing: the stream had removed %s before %s could have %s; copy %s here, or accept the loss, and remove %s\n",
		plural.Of(lacks.Messages, "message"), s.Dir(), them, them, filepath.Join(s.Dir(), string(transcript.NoteUnread)))
	return nil
}

// withWritableTranscripts is withTranscripts for writing into a folder that is there.
func withWritableTranscripts(ctx context.Context, o storeOptions, fn func(context.Context, *transcript.Store) error) error {
	if err := o.checkData(); err != nil {
		return err
	}
	if dir := o.transcripts(); !isTranscripts(dir) {
		return fmt.Errorf("%s is not a transcripts folder: give the folder that the consumer writes with --data-dir", dir)
	}
	s, err := transcript.Open(transcript.Config{Dir: o.transcripts(), FileTimeout: o.fileTimeout, SessionMaxBytes: o.sessionMax, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return dataDirError(err)
	}
	err = fn(ctx, s)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.fileTimeout)
	defer cancel()
	if cerr := s.Close(end); ctx.Err() == nil {
		err = errors.Join(err, cerr)
	}
	return err
}

package transcript

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// identityFile makes a folder a transcripts folder.
const identityFile = ".afterword"

// Identity tells one transcripts folder from another.
type Identity struct {
	ID     string `json:"id"` // 32 hex digits, random
	Layout Layout `json:"layout"`
	Schema int    `json:"schema"`

	// Local says that the folder is on a file system of this machine, so that
	// another machine cannot be looking at the same one.
	Local bool `json:"-"`
}

func openIdentity(p *place, cfg Config) (Identity, error) {
	root := p.root
	id, err := readIdentity(root)
	if errors.Is(err, fs.ErrNotExist) {
		if cfg.ReadOnly {
			return id, fmt.Errorf("%s is not a transcripts folder: it has no %s file", cfg.Dir, identityFile)
		}
		if err = createIdentity(p, cfg.Layout); err == nil {
			id, err = readIdentity(root) // somebody else may have been first
		}
	}
	if err != nil {
		return id, fmt.Errorf("transcripts folder %s: %w", cfg.Dir, err)
	}
	if id.Schema > Schema {
		return id, &SchemaError{Path: "transcripts folder " + cfg.Dir, Schema: id.Schema}
	}
	if cfg.Layout != "" && cfg.Layout != id.Layout {
		return id, fmt.Errorf("transcripts folder %s has layout %s, not %s: open it as what it is, or replay into another folder", cfg.Dir, id.Layout, cfg.Layout)
	}
	if !cfg.ReadOnly {
		if err := probeWritable(root); err != nil {
			return id, fmt.Errorf("transcripts folder %s cannot be written: %w", cfg.Dir, err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(cfg.Dir, &st); err != nil {
		return id, fmt.Errorf("transcripts folder %s: statfs: %w", cfg.Dir, err)
	}
	id.Local = localFileSystem(int64(st.Type))
	return id, nil
}

func readIdentity(root *os.Root) (id Identity, err error) {
	f, _, err := openFile(root, identityFile)
	if err != nil {
		return id, err
	}
	defer f.Close()
	if err := json.UnmarshalRead(f, &id); err != nil {
		var syntax *jsontext.SyntacticError
		var semantic *json.SemanticError
		if errors.As(err, &syntax) || errors.As(err, &semantic) {
			err = errors.New(jsonReason(err))
		}
		return id, fmt.Errorf("%s is not readable: %w", identityFile, err)
	}
	if id.ID == "" || id.Layout != Sharded && id.Layout != Flat || id.Schema < 1 {
		return id, fmt.Errorf("%s says id %q, layout %q, schema %d, which makes no sense", identityFile, id.ID, id.Layout, id.Schema)
	}
	return id, nil
}

// createIdentity writes the file once: of several processes that start
// together, the first to link its file wins.
func createIdentity(p *place, layout Layout) error {
	root := p.root
	if layout == "" {
		layout = Sharded
	}
	if layout != Sharded && layout != Flat {
		return fmt.Errorf("unknown layout %q: use %s or %s", layout, Sharded, Flat)
	}
	var id [16]byte
	rand.Read(id[:])
	b, err := json.Marshal(Identity{ID: hex.EncodeToString(id[:]), Layout: layout, Schema: Schema})
	if err != nil {
		return err
	}
	name := identityFile + "-" + hex.EncodeToString(id[:])
	if err := renameio.WriteFile(name, append(b, '\n'), 0o600, renameio.WithRoot(root), renameio.IgnoreUmask()); err != nil {
		return err
	}
	defer root.Remove(name)
	if err := p.owner.name(root, name); err != nil {
		return err
	}
	if err := root.Link(name, identityFile); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(root)
}

// probeSize is more than what file systems keep inside an inode, so that a full
// disk shows.
const probeSize = 64 << 10

// probeWritable fails where a commit would: a full or read-only file system, a
// folder of somebody else.
func probeWritable(root *os.Root) error {
	var id [8]byte
	rand.Read(id[:])
	name := identityFile + "-probe-" + hex.EncodeToString(id[:])
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = root.Remove(name); err == nil { // first, so that a crash leaves nothing
		_, err = f.Write(make([]byte, probeSize))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncFolder(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

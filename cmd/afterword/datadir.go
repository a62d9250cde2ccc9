package main

import (
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/afterword-io/afterword/internal/credentials"
)

const (
	dataDirFlag    = "data-dir"
	defaultDataDir = "./data"
)

// foldersOf tells, once flags are read, where credentials of embedded servers may be: in the folder
// of --data-dir and, because a service may have one of its own beside `afterword serve`, in the
// default one. Which of them are of a server, and may be sent there, [credentials] decides.
type foldersOf func() []string

// dataDirs finds --data-dir for what connects to servers. A command without files of its own gets
// the flag here; others define it before ([storeOptions.add]).
func (f flags) dataDirs() foldersOf {
	if f.Lookup(dataDirFlag) == nil {
		var dir string
		f.text(&dir, defaultDataDir, dataDirFlag, "", "data `FOLDER` of the `afterword serve` whose embedded servers are used")
	}
	g := f.Lookup(dataDirFlag)
	return func() []string { return dataDirsOf(g) }
}

func dataDirsOf(g *pflag.Flag) []string {
	dir := g.Value.String()
	if filepath.Clean(dir) == filepath.Clean(defaultDataDir) {
		return []string{dir}
	}
	return []string{dir, defaultDataDir}
}

// fromDataDir gives --nats-url and --redis-url, where nothing else has set them, the addresses of
// the embedded servers whose credentials are found, if any. The credentials stay in the folder until
// a connection is there ([credentials.Dialer]), and what is wrong with the file is said then.
func fromDataDir(fs *pflag.FlagSet) error {
	g := fs.Lookup(dataDirFlag)
	if g == nil || fs.Lookup("embedded-nats") != nil { // which runs them itself
		return nil
	}
	for _, dir := range dataDirsOf(g) {
		pair, err := credentials.Read(dir)
		if err != nil {
			continue
		}
		for name, url := range map[string]string{"nats-url": "nats://" + pair.NATS.Addr.String(), "redis-url": "redis://" + pair.Redis.Addr.String()} {
			if f := fs.Lookup(name); f != nil && f.Value.String() == "" {
				if err := set(fs, f, url, sourceFile+" "+pair.File()); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return nil
}

package bench

import (
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Result is what a benchmark found out.
type Result struct {
	Bench    string    `json:"bench"`
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"` // all of it
	Machine  Machine   `json:"machine"`
	Settings []Setting `json:"settings"`
	Measures []Measure `json:"measures"`
	Notes    []string  `json:"notes,omitempty"`
	Panels   []Panel   `json:"-"` // the picture
}

// Setting is one size that was asked for.
type Setting struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

// Machine is where it was measured.
type Machine struct {
	CPUs       int    `json:"cpus"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	NATS       string `json:"nats,omitempty"`
	FileSystem string `json:"file_system"` // of the scratch folder
	Load       string `json:"load"`        // of the last 1, 5 and 15 minutes before it began
}

func machineOf(dir string) Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil {
		m.FileSystem = fileSystem(int64(st.Type))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return m
}

func fileSystem(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs, which is no disk"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	}
	return "other"
}

// Find returns a measure by its name.
func (r *Result) Find(name string) (Measure, bool) {
	for _, m := range r.Measures {
		if m.Name == name {
			return m, true
		}
	}
	return Measure{}, false
}

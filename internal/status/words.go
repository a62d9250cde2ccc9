package status

import (
	"fmt"
	"time"
)

// rough writes a time for reading, in its largest unit.
func rough(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0s"
	case d >= 2*day:
		return fmt.Sprintf("%.1fd", float64(d)/float64(day))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.1fh", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.1fm", d.Minutes())
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

func roughBytes(n uint64) string {
	const unit = 1 << 10
	size, name := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < unit {
			break
		}
		size, name = size/unit, next
	}
	return fmt.Sprintf("%.1f %s", size, name)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

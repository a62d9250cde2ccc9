package main

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// unit is a unit of bytes.
type unit struct {
	name  string
	bytes int64
}

// byteUnits are the units that are understood, those that are printed first.
func byteUnits() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
	}
}

func parseBytes(s string) (int64, error) {
	number, factor := s, int64(1)
	for _, u := range byteUnits() {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > (1<<62)/factor {
		return 0, errors.New("use a size such as 500MB or 10GiB")
	}
	return n * factor, nil
}

// formatBytes writes n exactly, in the largest unit that divides it. 0 is "".
func formatBytes(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 0:
		return "unlimited"
	}
	for _, u := range byteUnits() {
		if n%u.bytes == 0 && u.name[len(u.name)-1] == 'B' && (len(u.name) == 3 || u.bytes == 1) {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// roughBytes writes n for reading.
func roughBytes(n uint64) string {
	for _, u := range byteUnits()[:4] {
		if n >= uint64(u.bytes) {
			return strconv.FormatFloat(float64(n)/float64(u.bytes), 'f', 1, 64) + " " + u.name
		}
	}
	return strconv.FormatUint(n, 10) + " B"
}

// shortDuration is d without the zero units that time.Duration prints.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

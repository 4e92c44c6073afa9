package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// days is a duration that may be given in days or weeks: 30d, 2w, 36h.
type days time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *days) UnmarshalText(text []byte) error {
	s := string(text)
	for unit, of := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		digits, ok := strings.CutSuffix(s, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no duration: give for instance 30d, 2w or 26h", s)
		}
		*d = days(time.Duration(n) * of)
		return nil
	}
	parsed, err := time.ParseDuration(s)
	if err != nil || parsed < 0 {
		return fmt.Errorf("%q is no duration: give for instance 30d, 2w or 26h", s)
	}
	*d = days(parsed)
	return nil
}

package pgfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Label is what a backup_label tells (build_backup_content of PostgreSQL's xlogbackup.c).
type Label struct {
	StartLSN     string // redo position of the checkpoint at the start
	StartSegment string // file that holds it
	Checkpoint   string // LSN of the checkpoint record
	From         string // "primary" (before 14 "master") or "standby"
	Timeline     uint32
}

// ParseLabel parses a backup_label.
func ParseLabel(text string) (Label, error) {
	var l Label
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ": ")
		if !ok {
			continue
		}
		switch name {
		case "START WAL LOCATION":
			lsn, file, _ := strings.Cut(value, " (file ")
			l.StartLSN, l.StartSegment = lsn, strings.TrimSuffix(file, ")")
		case "CHECKPOINT LOCATION":
			l.Checkpoint = value
		case "BACKUP FROM":
			l.From = value
		case "START TIMELINE":
			t, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return Label{}, fmt.Errorf("backup label: start timeline %q", value)
			}
			l.Timeline = uint32(t)
		}
	}
	if l.StartLSN == "" || l.Checkpoint == "" || l.Timeline == 0 {
		return Label{}, errors.New("backup label: start location, checkpoint or timeline is missing")
	}
	return l, nil
}

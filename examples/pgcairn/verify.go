package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
)

// verifyCommand makes sure that the repository can be restored from.
type verifyCommand struct {
	ID       string `arg:"" optional:"" help:"Backup, as listed. Default: the whole repository."`
	ReadData bool   `help:"Read content as well, as far as it is due."`
	MaxAge   days   `default:"30d" placeholder:"D" help:"Do not read again what was found right for so long; 0 reads all. Default: ${default}."`
	Sample   int64  `placeholder:"BYTES" help:"Read so much of what is due, chosen at random. Default: all."`
	KeepWAL  days   `name:"keep-wal" placeholder:"D" help:"Take it for no problem that older WAL is missing between backups, as retention leaves it."`
	Jobs     int    `help:"How many objects to read beside each other. Default: the number of processors."`
	Rate     int64  `placeholder:"BYTES/S" help:"Limit on reading."`
}

// Run runs the command. The report is printed whatever it says.
func (c *verifyCommand) Run(ctx context.Context, a *app) error {
	if err := a.onlyOne("verify"); err != nil {
		return err
	}
	for flag, n := range map[string]int64{"jobs": int64(c.Jobs), "rate": c.Rate, "sample": c.Sample} {
		if n < 0 {
			return usage("--" + flag + " must not be negative")
		}
	}
	o := &backup.VerifyOptions{
		ReadData: c.ReadData, MaxAge: time.Duration(c.MaxAge), Sample: c.Sample, KeepWAL: time.Duration(c.KeepWAL), Jobs: c.Jobs, Rate: c.Rate, Logger: a.logger(),
		Progress: a.meter().verify(),
	}
	if c.MaxAge == 0 {
		o.MaxAge = -1
	}
	if c.ID != "" {
		id, err := backup.ParseID(c.ID)
		if err != nil {
			return &usageError{err}
		}
		o.Backups = []backup.ID{id}
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	report, failed := backup.Verify(ctx, r, o)
	a.screen.done()
	if errors.Is(failed, fs.ErrNotExist) {
		return &noBackupError{failed}
	}
	if failed != nil && len(report.Problems) == 0 {
		return failed
	}
	err = a.print(report, func(w *strings.Builder) { fmt.Fprint(w, report) })
	switch {
	case failed != nil:
		return failed
	case !report.OK():
		return &problemsError{len(report.Problems)}
	}
	return err
}

// problemsError means that the repository is not what it should be.
type problemsError struct{ n int }

func (e *problemsError) Error() string {
	if e.n == 1 {
		return "verify: 1 problem"
	}
	return fmt.Sprintf("verify: %d problems", e.n)
}

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// plainEvery is how often plain progress prints a line, besides one a phase.
const plainEvery = 5 * time.Second

// gauge is how far something has come.
type gauge struct {
	phase       string
	done, total int64         // bytes
	rate        int64         // bytes a second; 0 when not known
	remaining   time.Duration // at that rate
}

// text tells all of it in a line, or all but the percentage.
func (g gauge) text(percentage bool) string {
	text := g.phase
	if g.total > 0 {
		text += fmt.Sprintf(": %s of %s", size(g.done), size(g.total))
		if percentage {
			text += fmt.Sprintf(" (%d %%)", g.done*100/g.total)
		}
	}
	if g.rate > 0 {
		text += fmt.Sprintf(", %s/s, %s left", size(g.rate), g.remaining.Round(time.Second))
	}
	return text
}

// meter shows progress on stderr.
type meter func(gauge)

// meter returns the meter that --progress asks for, or nil.
func (a *app) meter() meter {
	switch a.common.Progress {
	case "bar":
		return a.bar()
	case "plain":
		return a.plain()
	case "auto":
		if term.IsTerminal(int(os.Stderr.Fd())) { //nolint:gosec // a file descriptor
			return a.bar()
		}
	}
	return nil
}

func (a *app) bar() meter {
	return func(g gauge) {
		a.screen.show(func(b *progressbar.ProgressBar) {
			b.Describe(g.text(false))
			if g.total > 0 {
				if b.GetMax64() != g.total {
					b.ChangeMax64(g.total)
				}
				_ = b.Set64(min(g.done, g.total))
			}
		})
	}
}

func (a *app) plain() meter {
	var phase string
	var last time.Time
	return func(g gauge) {
		if g.phase == phase && time.Since(last) < plainEvery {
			return
		}
		phase, last = g.phase, time.Now()
		_, _ = io.WriteString(a.screen, g.text(true)+"\n")
	}
}

// backup adapts the meter to a backup.
func (m meter) backup() func(backup.Progress) {
	if m == nil {
		return nil
	}
	return func(p backup.Progress) {
		m(gauge{phase: "backup: " + p.Phase, done: p.ReadBytes, total: p.Total, rate: p.Rate, remaining: p.Remaining})
	}
}

// restore adapts the meter to a restore.
func (m meter) restore() func(restore.Progress) {
	if m == nil {
		return nil
	}
	return func(p restore.Progress) {
		m(gauge{
			phase: "restore: " + p.Phase, done: p.RestoredBytes + p.ReusedBytes, total: p.TotalBytes,
			rate: p.Rate, remaining: p.Remaining,
		})
	}
}

// verify adapts the meter to a verification.
func (m meter) verify() func(backup.VerifyProgress) {
	if m == nil {
		return nil
	}
	return func(p backup.VerifyProgress) {
		m(gauge{phase: "verify: " + p.Phase, done: p.Bytes, total: p.TotalBytes})
	}
}

// phases adapts the meter to the phases of a drill, or of what is done by one.
func (m meter) phases(of string) func(drill.Phase) {
	if m == nil {
		return nil
	}
	return func(p drill.Phase) { m(gauge{phase: of + ": " + string(p)}) }
}

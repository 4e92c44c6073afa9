package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// plainEvery is how often plain progress prints a line, besides one a phase.
const plainEvery = 5 * time.Second

// meter shows progress on stderr.
type meter func(phase string, done, total int64)

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
	var phase string
	return func(p string, done, total int64) {
		a.screen.show(func(b *progressbar.ProgressBar) {
			if p != phase {
				phase = p
				b.Describe(p)
			}
			if total > 0 {
				if b.GetMax64() != total {
					b.ChangeMax64(total)
				}
				_ = b.Set64(min(done, total))
			}
		})
	}
}

func (a *app) plain() meter {
	var phase string
	var last time.Time
	return func(p string, done, total int64) {
		if p == phase && time.Since(last) < plainEvery {
			return
		}
		phase, last = p, time.Now()
		line := p
		if total > 0 {
			line = fmt.Sprintf("%s: %s of %s (%d %%)", p, size(done), size(total), done*100/total)
		}
		_, _ = io.WriteString(a.screen, line+"\n")
	}
}

// backup adapts the meter to a backup.
func (m meter) backup() func(backup.Progress) {
	if m == nil {
		return nil
	}
	return func(p backup.Progress) { m("backup: "+p.Phase, p.ReadBytes, p.Total) }
}

// restore adapts the meter to a restore.
func (m meter) restore() func(restore.Progress) {
	if m == nil {
		return nil
	}
	return func(p restore.Progress) { m("restore: "+p.Phase, p.RestoredBytes, p.TotalBytes) }
}

package pgfile_test

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

func FuzzParseControl(f *testing.F) {
	for _, b := range seeds(f, "control", "pg*") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := pgfile.ParseControl(b)
		if err == nil && (c.PageSize < 1<<10 || c.PageSize > 32<<10 || c.RelSegPages == 0) {
			t.Errorf("accepted %+v", c)
		}
	})
}

func FuzzParseLabel(f *testing.F) {
	for _, b := range seeds(f, "label", "pg*") {
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := pgfile.ParseLabel(text)
		if err == nil && (l.StartLSN == "" || l.Checkpoint == "" || l.Timeline == 0) {
			t.Errorf("accepted %+v", l)
		}
	})
}

func FuzzParseRelation(f *testing.F) {
	for _, b := range seeds(f, "path", "pg*") {
		for line := range strings.Lines(string(b)) {
			f.Add(strings.TrimSuffix(line, "\n"))
		}
	}
	f.Fuzz(func(t *testing.T, p string) {
		pgfile.FileExcluded(p)
		r, ok := pgfile.ParseRelation(p)
		if !ok {
			return
		}
		name := fmt.Sprint(r.Number)
		if r.Fork != "main" {
			name += "_" + r.Fork
		}
		if r.Segment != 0 {
			name += fmt.Sprintf(".%d", r.Segment)
		}
		got := path.Base(p)
		if r.Temp {
			_, got, _ = strings.Cut(got, "_")
		}
		if got != name {
			t.Errorf("%q was taken for %+v, which is named %q", p, r, name)
		}
		if r.Temp != pgfile.FileExcluded(p) {
			t.Errorf("%q: temporary %v, excluded %v", p, r.Temp, pgfile.FileExcluded(p))
		}
	})
}

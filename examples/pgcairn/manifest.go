package main

import (
	"fmt"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
)

// How many bad pages are named: where there are more, which they are matters less than that there are.
const (
	badPagesInJSON = 1000
	badPagesInText = 20
)

// manifestDoc is a backup as it is printed by who has its manifest.
type manifestDoc struct {
	summaryDoc
	BadPageList []backup.DamagedPage `json:"bad_page_list"` // the first of them
}

func newManifestDoc(m *backup.Manifest) manifestDoc {
	d := manifestDoc{summaryDoc: newSummaryDoc(&m.Summary), BadPageList: []backup.DamagedPage{}}
	for p := range m.Damage() {
		if len(d.BadPageList) == badPagesInJSON {
			break
		}
		d.BadPageList = append(d.BadPageList, p)
	}
	return d
}

func (d manifestDoc) print(w *strings.Builder) {
	d.summaryDoc.print(w)
	for i, p := range d.BadPageList {
		if i == badPagesInText {
			fmt.Fprintf(w, "bad page  and %d more\n", d.BadPages-i)
			break
		}
		fmt.Fprintf(w, "bad page  block %d of %s\n", p.Block, whose(p))
	}
}

// kindOf is what PostgreSQL calls a relation of a kind that has pages.
func kindOf(letter string) string {
	switch letter {
	case "r":
		return "table"
	case "i":
		return "index"
	case "t":
		return "TOAST table"
	case "m":
		return "materialized view"
	case "S":
		return "sequence"
	}
	return "relation"
}

// whose tells in words what a page is of.
func whose(p backup.DamagedPage) string {
	if p.Relation == "" {
		return p.Path
	}
	text := fmt.Sprintf("%s %s.%s", kindOf(p.Kind), p.Schema, p.Relation)
	if p.Table != "" {
		text += " of " + p.Table
	}
	if p.Database != "" {
		text += " in " + p.Database
	}
	return fmt.Sprintf("%s (%s)", text, p.Path)
}

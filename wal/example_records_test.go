package wal_test

import (
	"fmt"
	"os"

	"github.com/pgcairn/pgcairn/wal"
)

// The first pages of a segment; several segments that follow each other are read with io.MultiReader.
func ExampleRecords() {
	f, err := os.Open("testdata/seed/records/pg18")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	records, commits := 0, 0
	for r, err := range wal.Records(f, nil) {
		if err != nil {
			fmt.Println(err) // a *wal.RecordError where there is no valid record
			return
		}
		records++
		p, err := r.Payload()
		if err != nil {
			fmt.Println(err)
			return
		}
		switch p := p.(type) {
		case *wal.RestorePoint:
			fmt.Println(p.Name)
		case *wal.Transaction:
			if p.Outcome == wal.Committed {
				commits++
			}
		}
	}
	fmt.Println(records > 50, commits > 0)
	// Output:
	// before it all
	// true true
}

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// keyListCommand says who can read what.
type keyListCommand struct{}

// Run runs the command.
func (c *keyListCommand) Run(ctx context.Context, a *app) error {
	if err := a.onlyOne("key list"); err != nil {
		return err
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	keys := []repo.Key{}
	if r.Encrypted() {
		if keys, err = r.Keys(ctx); err != nil {
			return err
		}
	}
	doc := struct {
		Keys []repo.Key `json:"keys"`
	}{keys}
	return a.print(doc, func(w *strings.Builder) {
		for _, key := range keys {
			state := ""
			if key.Retired {
				state += ", retired"
			}
			if !key.Readable {
				state += ", not opened by the identities given"
			}
			fmt.Fprintf(w, "%s%s\n", key.ID, state)
			for _, x := range key.Wrappings {
				fmt.Fprintf(w, "  %s  for %s\n", moment(x.CreatedAt), readersOf(x))
				if x.Problem != "" {
					fmt.Fprintf(w, "    %s: %s\n", x.Object, oneLine(x.Problem))
				}
			}
		}
	})
}

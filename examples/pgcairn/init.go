package main

import (
	"context"
	"fmt"
	"strings"
)

// initCommand creates the repository, or each of several.
type initCommand struct{}

// initDoc is what the command prints of a repository.
type initDoc struct {
	ID        string `json:"id"`
	Encrypted bool   `json:"encrypted"`
}

// Run runs the command.
func (c *initCommand) Run(ctx context.Context, a *app) error {
	var made []initDoc
	for _, location := range a.locations {
		r, err := a.initRepository(ctx, location)
		if err != nil {
			return err
		}
		made = append(made, initDoc{r.ID(), r.Encrypted()})
	}
	doc := struct {
		initDoc
		Others []initDoc `json:"others,omitempty"`
	}{made[0], made[1:]}
	return a.print(doc, func(w *strings.Builder) {
		for _, r := range made {
			how := "not encrypted"
			if r.Encrypted {
				how = "encrypted"
			}
			fmt.Fprintf(w, "repository %s, %s\n", r.ID, how)
		}
	})
}

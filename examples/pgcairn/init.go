package main

import (
	"context"
	"fmt"
	"strings"
)

// initCommand creates the repository.
type initCommand struct{}

// Run runs the command.
func (c *initCommand) Run(ctx context.Context, a *app) error {
	r, err := a.initRepository(ctx)
	if err != nil {
		return err
	}
	doc := struct {
		ID        string `json:"id"`
		Encrypted bool   `json:"encrypted"`
	}{r.ID(), r.Encrypted()}
	return a.print(doc, func(w *strings.Builder) {
		how := "not encrypted"
		if doc.Encrypted {
			how = "encrypted"
		}
		fmt.Fprintf(w, "repository %s, %s\n", doc.ID, how)
	})
}

package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// versionCommand prints the version.
type versionCommand struct{}

// Run runs the command.
func (c *versionCommand) Run(_ context.Context, a *app) error {
	doc := struct {
		Version string `json:"version"`
		Format  int    `json:"format"` // of repositories
		Go      string `json:"go"`
	}{"(unknown)", repo.Format, runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		doc.Version = info.Main.Version
	}
	return a.print(doc, func(w *strings.Builder) {
		fmt.Fprintf(w, "pgcairn %s, repository format %d, %s\n", doc.Version, doc.Format, doc.Go)
	})
}

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgcairn/pgcairn/crypto"
)

// keyGenerateCommand makes an identity.
type keyGenerateCommand struct{}

// Run runs the command. What it prints is an identity file.
func (c *keyGenerateCommand) Run(_ context.Context, a *app) error {
	identity, recipient, err := crypto.Generate()
	if err != nil {
		return err
	}
	doc := struct {
		Identity  string `json:"identity"`
		Recipient string `json:"recipient"`
	}{identity, recipient}
	return a.print(doc, func(w *strings.Builder) {
		fmt.Fprintf(w, "# public key: %s\n%s\n", recipient, identity)
	})
}

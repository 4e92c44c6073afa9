package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// keyRotateCommand changes who can read.
type keyRotateCommand struct {
	NewKey bool `help:"Have every host write with a new data key from now on. Without --recipient, that alone."`
}

// rotationDoc is what the command prints.
type rotationDoc struct {
	repo.Rotation

	Retired []string `json:"retired"`
}

// Run runs the command. What could not be done does not keep the rest from being done, and told.
func (c *keyRotateCommand) Run(ctx context.Context, a *app) error {
	if err := a.onlyOne("key rotate"); err != nil {
		return err
	}
	rewrap := strings.Trim(strings.Join(a.common.Recipients, ""), ", \t\n") != ""
	if !rewrap && !c.NewKey {
		return usage("give the new recipients by --recipient or PGCAIRN_RECIPIENTS, or --new-key, or both")
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	if !r.Encrypted() {
		return errors.New("the repository is not encrypted: it has no keys")
	}
	doc := rotationDoc{Rotation: repo.Rotation{Rewrapped: []string{}, Unchanged: []string{}, Left: []repo.LeftKey{}, Kept: []repo.KeptWrapping{}}, Retired: []string{}}
	if rewrap {
		var left *repo.RotationError
		if doc.Rotation, err = r.RotateKeys(ctx); err != nil && !errors.As(err, &left) {
			return err
		}
	}
	if c.NewKey {
		retired, failed := r.RetireKeys(ctx)
		doc.Retired = append(doc.Retired, retired...)
		err = errors.Join(err, failed)
	}
	return errors.Join(err, a.print(doc, func(w *strings.Builder) {
		if rewrap {
			fmt.Fprintf(w, "data keys wrapped anew: %d; wrapped to just these recipients before: %d\n", len(doc.Rewrapped), len(doc.Unchanged))
		}
		for _, left := range doc.Left {
			fmt.Fprintf(w, "left as it was: %s: %s\n", left.ID, oneLine(left.Error))
		}
		for _, kept := range doc.Kept {
			fmt.Fprintf(w, "not deleted: %s, which is read by %s: %s\n", kept.Object, readersOf(kept.Wrapping), oneLine(kept.Error))
		}
		if c.NewKey {
			fmt.Fprintf(w, "data keys retired: %d; hosts write with new ones within five minutes\n", len(doc.Retired))
		}
	}))
}

// readersOf names those that a wrapping is for, as far as can be told.
func readersOf(w repo.Wrapping) string {
	switch {
	case len(w.Recipients) == 0:
		return fmt.Sprintf("%d whom it does not name", len(w.Kinds))
	case !w.Proven:
		return strings.Join(w.Recipients, " and ") + ", says whoever wrote it"
	case len(w.Kinds) > len(w.Recipients):
		return fmt.Sprintf("%s and %d whom it does not name", strings.Join(w.Recipients, " and "), len(w.Kinds)-len(w.Recipients))
	}
	return strings.Join(w.Recipients, " and ")
}

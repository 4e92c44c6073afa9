package backup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// CopyProblem is something of the source that was not copied because it is damaged, missing, or of a later format; or, by
// Destination, what the other repository has in its place and is damaged there, or encrypted for others than those for whom
// the copy is.
type CopyProblem struct {
	Key         string `json:"key"`                   // of the object
	Destination bool   `json:"destination,omitempty"` // it is the other repository's: nothing is overwritten there
	Backups     []ID   `json:"backups,omitempty"`     // that were not copied for it
	Text        string `json:"error"`
	Err         error  `json:"-"`
}

// CopyError means that some objects were not copied, and the backups that need them; all else was. It
// wraps the error of each, most of which are a *[repo.CorruptError].
type CopyError struct{ Problems []CopyProblem }

func (e *CopyError) Error() string {
	first := e.Problems[0]
	text := "backup: copy: " + first.Text
	if len(first.Backups) > 0 {
		text += fmt.Sprintf(" (so these backups were not copied: %s)", join(first.Backups))
	}
	if n := len(e.Problems) - 1; n > 0 {
		text += fmt.Sprintf("; and %d more objects", n)
	}
	return text
}

// Unwrap returns the errors of all problems.
func (e *CopyError) Unwrap() []error {
	all := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = p.Err
	}
	return all
}

func join(ids []ID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	return strings.Join(texts, ", ")
}

// excuse takes note of what is wrong with an object, and of a backup that cannot be copied for it, and
// returns nil; or the error, when it is none of that.
func (c *copier) excuse(key string, err error, id ID) error {
	var corrupt *repo.CorruptError
	var codec *repo.CodecError
	var format *repo.FormatError
	var other *otherKeyError
	switch {
	case errors.As(err, &corrupt):
		key = corrupt.Key // which may be that of its data key
	case errors.As(err, &codec), errors.As(err, &format), errors.As(err, &other):
	default:
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.problems[key]
	if p == nil {
		var there *damagedThereError
		p = &CopyProblem{Key: key, Destination: errors.As(err, &there) || errors.As(err, &other), Text: err.Error(), Err: err}
		c.problems[key] = p
	}
	if id != "" && !slices.Contains(p.Backups, id) {
		p.Backups = append(p.Backups, id)
	}
	return nil
}

// absent is the error that an object of the source is not there, though it should be.
func absent(key, why string) error {
	return &repo.CorruptError{Key: key, Err: errors.New("it is missing, " + why)}
}

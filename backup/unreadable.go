package backup

import (
	"errors"

	"github.com/pgcairn/pgcairn/repo"
)

// UnreadableError means that nothing is known of one backup, or whether it is pinned, though the repository can be read: a
// record or a manifest is corrupt (a *[repo.CorruptError]); or the manifest is encrypted to a data key that the identities
// at hand do not open (a *[repo.DataKeyError]), as after one of them was lost; or it is missing and the backup is pinned,
// so that no retention has dropped it (an error matching fs.ErrNotExist).
type UnreadableError struct {
	Key string // of the object
	Err error
}

func (e *UnreadableError) Error() string { return "backup: " + e.Key + ": " + e.Err.Error() }
func (e *UnreadableError) Unwrap() error { return e.Err }

// isUnreadable tells whether an error says that an object cannot be read, and not that nothing can be.
func isUnreadable(err error) bool {
	var corrupt *repo.CorruptError
	var closed *repo.DataKeyError
	return errors.As(err, &corrupt) || errors.As(err, &closed) && !closed.WriteOnly()
}

package backup

import "errors"

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

// Unreadable returns the errors that an error of [List] or [Pinned] joins; none where it is another.
func Unreadable(err error) []*UnreadableError {
	if u := (*UnreadableError)(nil); errors.As(err, &u) {
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			var all []*UnreadableError
			for _, one := range many.Unwrap() {
				all = append(all, Unreadable(one)...)
			}
			return all
		}
		return []*UnreadableError{u}
	}
	return nil
}

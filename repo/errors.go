package repo

import (
	"errors"
	"fmt"
	"strconv"
)

// Errors that a caller may want to tell apart. A missing object is fs.ErrNotExist, a taken name fs.ErrExist.
var (
	// ErrNoRepository means that the store holds no repository: there is no marker.
	ErrNoRepository = errors.New("no pgcairn repository here")
	// ErrEncrypted means that the repository is encrypted and no Cipher was given.
	ErrEncrypted = errors.New("the repository is encrypted: give its recipients to write, an identity to read")
	// ErrNotEncrypted means that a Cipher was given for a repository that was made without encryption, where it
	// would be of no effect.
	ErrNotEncrypted = errors.New("the repository is not encrypted, but recipients or identities were given")
	// ErrUnsafeStore means that the store let a second writer overwrite an object.
	ErrUnsafeStore = errors.New("the store does not refuse to create an object twice: it cannot hold a repository safely")
	// ErrRefused means that the store has answered, and does not permit what it was asked for: for want of permission, as
	// with append-only credentials; for a lock on the object, such as Object Lock, a retention policy, a hold, or an
	// immutable file; or since it is read-only. Asking again is in vain until somebody changes that. An outage is never
	// ErrRefused.
	ErrRefused = errors.New("the store refuses it")
)

// MarkerError means that a store has no marker, and objects of a repository: to make a new one there would mix the two.
type MarkerError struct {
	Key string // of an object that is there
}

func (e *MarkerError) Error() string {
	return "repo: " + markerKey + " is gone, and " + e.Key + " is there: " +
		"bring it back from a version or a copy of the store; a new repository is made in an empty store, or folder"
}

// CorruptError means that an object was read and is not what was once written: a flipped bit, a truncation, an object
// put under another's name, or a wrong key. Failing to read at all is never a CorruptError.
type CorruptError struct {
	Key string // of the object
	Err error  // what did not fit
}

func (e *CorruptError) Error() string { return "corrupt object " + e.Key + ": " + e.Err.Error() }
func (e *CorruptError) Unwrap() error { return e.Err }

// FormatError means that a repository was written in a format that this version of pgcairn does not know.
type FormatError struct {
	Format    int // of the repository
	Supported int // newest format known here
}

func (e *FormatError) Error() string {
	return "repository format " + strconv.Itoa(e.Format) + " is unknown to this version of pgcairn, which knows format " +
		strconv.Itoa(e.Supported) + ": use a newer version"
}

// corrupt makes a CorruptError without wrapping what could be mistaken for an answer about the object itself, such as
// fs.ErrNotExist of its key.
func corrupt(key, format string, args ...any) error {
	return &CorruptError{Key: key, Err: fmt.Errorf(format, args...)}
}

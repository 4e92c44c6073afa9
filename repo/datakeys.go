package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// DataKeyError means that a wrapped data key is there, and that the Cipher at hand does not open it. Whether the key is
// damaged or meant for others, nobody else can tell.
type DataKeyError struct {
	Key string // of the object
	Err error  // of the Cipher
}

func (e *DataKeyError) Error() string { return "open data key " + e.Key + ": " + e.Err.Error() }

// Is sees through to the Cipher's error, but not that a file of its own is missing, or taken: that says nothing of an object.
func (e *DataKeyError) Is(target error) bool {
	return target != fs.ErrNotExist && target != fs.ErrExist && errors.Is(e.Err, target)
}

// As sees through to the Cipher's error.
func (e *DataKeyError) As(target any) bool { return errors.As(e.Err, target) }

// Foreign tells that the Cipher has identities, and the key is for others: not that it failed to try, as when a plugin does.
func (e *DataKeyError) Foreign() bool {
	var w interface{ WriteOnly() bool }
	return errors.As(e.Err, &w) && !w.WriteOnly()
}

// WriteOnly tells that the Cipher has nothing to open keys with, as it says itself by such a method of its error.
func (e *DataKeyError) WriteOnly() bool {
	var w interface{ WriteOnly() bool }
	return errors.As(e.Err, &w) && w.WriteOnly()
}

// Unreadable tells whether an error means that an object is there and cannot be read with what is at hand, however often one
// tries: it is corrupt, or it is encrypted to others.
func Unreadable(err error) bool {
	var damaged *CorruptError
	var closed *DataKeyError
	return errors.As(err, &damaged) || errors.As(err, &closed) && closed.Foreign()
}

// CheckDataKey reads a wrapped data key, an object below keys/, and opens it, whether or not that was done before. The error
// is a *[CorruptError] when it is damaged for sure, a *[DataKeyError] when the Cipher does not open it, and matches
// fs.ErrNotExist when it is missing.
func (r *Repo) CheckDataKey(ctx context.Context, key string) error {
	if r.keys == nil {
		return ErrNotEncrypted
	}
	wrapped, err := readSmall(ctx, r.store, key, maxWrapped)
	if err != nil {
		return err
	}
	public, _, err := r.keys.cipher.OpenKey(wrapped)
	if errors.Is(err, fs.ErrInvalid) {
		return corrupt(key, "%w", err)
	}
	if err != nil {
		return &DataKeyError{Key: key, Err: err}
	}
	if id, _, _ := strings.Cut(path.Base(key), "."); keyID(public) != id {
		return corrupt(key, "it holds another key")
	}
	return nil
}

// DataKeyOf returns the key of the data key that an object is encrypted to, as the object's front says, without an
// identity; it is empty when the repository is not encrypted. Damage of the front is noticed, as a *[CorruptError]. A missing
// object is an error matching fs.ErrNotExist.
func (r *Repo) DataKeyOf(ctx context.Context, key string) (string, error) {
	if r.keys == nil {
		return "", nil
	}
	body, err := r.store.Open(ctx, key, 0, frontSize)
	if err != nil {
		return "", fmt.Errorf("repo: open %s: %w", key, err)
	}
	defer body.Close()
	first, err := io.ReadAll(body)
	if err != nil {
		return "", fmt.Errorf("repo: read %s: %w", key, err)
	}
	f, err := readFront(r.keys.cipher, key, first)
	if err != nil {
		return "", corrupt(key, "%w", err)
	}
	return keyKey(f.id), nil
}

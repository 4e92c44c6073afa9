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
func (e *DataKeyError) Unwrap() error { return e.Err }

// WriteOnly tells that the Cipher has nothing to open keys with, as it says itself by such a method of its error.
func (e *DataKeyError) WriteOnly() bool {
	var w interface{ WriteOnly() bool }
	return errors.As(e.Err, &w) && w.WriteOnly()
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

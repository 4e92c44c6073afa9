package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// Below keys/ a data key has objects named by its id:
//
//	<id>.age            the secret half, wrapped by the host that made the key: wrapping 0
//	<id>.<number>.age   the same, wrapped anew; eight decimal digits, from 1
//	<id>.retired        a record: nothing is to be written with the key any more
//
// Any wrapping will do that opens and holds the key of that id, which no other can be made to have. So a rotation may be
// cut short anywhere, and what somebody plants is passed over. The highest number counts as the last word on who may
// read, and only lower ones are ever deleted: of rotations that race, each leaves at least its own.

// maxWrapping is the highest number of a wrapping.
const maxWrapping = 99999999

// keyObjects are the objects of one data key.
type keyObjects struct {
	id      string
	wrapped []wrappedKey // the highest number first
	retired bool
}

// wrappedKey is an object that holds a wrapped data key.
type wrappedKey struct {
	info   Info
	number int
}

func wrappingKey(id string, number int) string {
	if number == 0 {
		return keyKey(id)
	}
	return fmt.Sprintf("keys/%s.%08d.age", id, number)
}

func retiredKey(id string) string { return "keys/" + id + ".retired" }

// list lists the objects of one data key, or of all when id is empty, ascending by id.
func (k *keyring) list(ctx context.Context, id string) ([]keyObjects, error) {
	prefix := "keys/"
	if id != "" {
		prefix += id + "."
	}
	var all []keyObjects
	for info, err := range k.store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("repo: list data keys: %w", err)
		}
		id, number, retired, ok := parseKeyObject(info.Key)
		if !ok {
			continue // of a later version
		}
		if len(all) == 0 || all[len(all)-1].id != id {
			all = append(all, keyObjects{id: id})
		}
		of := &all[len(all)-1]
		if retired {
			of.retired = true
		} else {
			of.wrapped = append(of.wrapped, wrappedKey{info: info, number: number})
		}
	}
	for _, of := range all {
		slices.SortFunc(of.wrapped, func(a, b wrappedKey) int { return b.number - a.number })
	}
	return all, nil
}

func parseKeyObject(key string) (id string, number int, retired, ok bool) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(key, "keys/"), ".")
	if len(id) != 2*keyIDSize || strings.Trim(id, "0123456789abcdef") != "" {
		return "", 0, false, false
	}
	if digits, found := strings.CutSuffix(rest, ".age"); found {
		number, _ = strconv.Atoi(digits)
	}
	switch key {
	case retiredKey(id):
		return id, 0, true, true
	case wrappingKey(id, number):
		return id, number, false, number >= 0 && number <= maxWrapping // more digits may be planted
	}
	return "", 0, false, false
}

// open returns the secret half of a data key: that of the first wrapping that opens. Its errors never match
// fs.ErrNotExist.
func (k *keyring) open(ctx context.Context, id string) (string, error) {
	secret, reason, err := k.openWrapping(ctx, id, 0)
	switch {
	case err == nil && reason == nil:
		return secret, nil
	case errors.Is(err, fs.ErrNotExist):
		reason = corrupt(keyKey(id), "the data key is missing: what it encrypts cannot be read")
	case err != nil:
		return "", err
	}
	// It may have been wrapped anew.
	secret, newest, err := k.openNewest(ctx, id)
	switch {
	case err != nil:
		return "", err // and not the reason: nobody knows whether the key is missing, or damaged for good
	case newest != nil:
		return "", newest
	case secret == "":
		return "", reason
	}
	return secret, nil
}

// openNewest is open without wrapping 0. All it returns is empty when there is no other.
func (k *keyring) openNewest(ctx context.Context, id string) (secret string, reason, err error) {
	// What is gone after it was listed was wrapped anew just then.
	for range 3 {
		found, err := k.list(ctx, id)
		if err != nil {
			return "", nil, err
		}
		gone := len(found) == 0
		reason = nil
		for _, of := range found {
			for _, w := range of.wrapped {
				if w.number == 0 {
					continue
				}
				secret, r, err := k.openWrapping(ctx, id, w.number)
				switch {
				case errors.Is(err, fs.ErrNotExist):
					gone = true
				case err != nil:
					return "", nil, err
				case r == nil:
					return secret, nil, nil
				case reason == nil:
					reason = r
				}
			}
		}
		if !gone {
			break
		}
	}
	return "", reason, nil
}

// openWrapping opens one wrapping. reason is why it does not open, err why it could not be read.
func (k *keyring) openWrapping(ctx context.Context, id string, number int) (secret string, reason, err error) {
	key := wrappingKey(id, number)
	wrapped, err := readSmall(ctx, k.store, key, maxWrapped)
	var damaged *CorruptError
	if errors.As(err, &damaged) {
		return "", err, nil
	}
	if err != nil {
		return "", nil, err
	}
	secret, reason = k.unwrap(ctx, id, key, wrapped)
	return secret, reason, nil
}

// unwrap opens a wrapped key, which must be that of the id.
func (k *keyring) unwrap(ctx context.Context, id, key string, wrapped []byte) (string, error) {
	public, secret, err := k.cipher.OpenKey(wrapped)
	if errors.Is(err, fs.ErrInvalid) {
		return "", corrupt(key, "%w", err)
	}
	if err != nil && ctx.Err() != nil {
		return "", objerr.Failed(ctx, "open data key", key, err)
	}
	if err != nil {
		return "", &DataKeyError{Key: key, Err: err}
	}
	if keyID(public) != id {
		return "", corrupt(key, "it holds another key")
	}
	return secret, nil
}

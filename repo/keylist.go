package repo

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// Key is what can be told of one data key, and so of who can read what is encrypted to it.
type Key struct {
	ID        string     `json:"id"`
	Retired   bool       `json:"retired"`   // hosts write with it no more, see [Repo.RetireKeys]
	Readable  bool       `json:"readable"`  // the identities at hand open it
	Wrappings []Wrapping `json:"wrappings"` // the last one made first: whoever one of them is for can read
}

// Wrapping is one object that holds a data key, wrapped to recipients. age does not tell recipients apart, so their
// names are what whoever made the object has said.
type Wrapping struct {
	Object    string    `json:"object"`
	CreatedAt time.Time `json:"created_at"` // by the store's clock

	// Recipients are those that it names, maybe none. Where it is not Proven, anybody who can write to the store may have
	// planted them.
	Recipients []string `json:"recipients"`

	// Proven tells that an identity at hand has opened it, and found the key in it that its name says: so it was made,
	// names and all, by somebody who had that key himself, as the host that made the key had, and whoever could read.
	Proven bool `json:"proven"`

	// Kinds are age's types of what each recipient was given, such as X25519. Most recipients have one; where there are
	// more of them than names, it is for somebody that is not named.
	Kinds []string `json:"kinds"`

	// Openers are the identities at hand that open it, by their recipients.
	Openers []string `json:"openers"`

	Problem string `json:"problem,omitempty"` // why it does not open, where it is not for others alone
}

// Keys tells who can read what: every data key with the objects that hold it, by id. It tells of what the store holds
// now. Whoever has opened a data key once may have kept it, and copies of objects that were deleted since, as a store
// with versions makes them, are read by those for whom they were made.
//
// It tries each identity at each object. It takes a listing, and one request an object.
func (r *Repo) Keys(ctx context.Context) ([]Key, error) {
	if r.keys == nil {
		return nil, ErrNotEncrypted
	}
	all, err := r.keys.list(ctx, "")
	if err != nil {
		return nil, err
	}
	keys := make([]Key, 0, len(all))
	for _, of := range all {
		key := Key{ID: of.id, Retired: of.retired, Wrappings: []Wrapping{}}
		for _, w := range of.wrapped {
			about, err := r.keys.describe(ctx, of.id, w)
			if errors.Is(err, fs.ErrNotExist) {
				continue // superseded just now
			}
			if err != nil {
				return nil, err
			}
			key.Readable = key.Readable || about.Proven
			key.Wrappings = append(key.Wrappings, about)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// describe tells what can be told of a wrapping. Its error is that of the store.
func (k *keyring) describe(ctx context.Context, id string, w wrappedKey) (Wrapping, error) {
	about := Wrapping{Object: w.info.Key, CreatedAt: w.info.ModTime, Recipients: []string{}, Kinds: []string{}, Openers: []string{}}
	b, err := readSmall(ctx, k.store, w.info.Key, maxWrapped)
	if err == nil {
		err = k.inspect(ctx, id, b, &about)
	} else if !isCorrupt(err) {
		return Wrapping{}, err
	}
	if err != nil {
		about.Problem = err.Error()
	}
	return about, nil
}

func (k *keyring) inspect(ctx context.Context, id string, b []byte, about *Wrapping) error {
	recipients, kinds, err := k.cipher.KeyHeader(b)
	if err != nil {
		return err
	}
	about.Recipients, about.Kinds = append(about.Recipients, recipients...), append(about.Kinds, kinds...)
	openers, err := k.cipher.KeyOpeners(b)
	if err != nil || len(openers) == 0 {
		return err
	}
	about.Openers = openers
	_, err = k.unwrap(ctx, id, about.Object, b)
	about.Proven = err == nil
	return err
}

func isCorrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}

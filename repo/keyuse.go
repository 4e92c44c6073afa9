package repo

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// KeyUse tells how what is encrypted to a data key compares with what this host writes now. Who the key is for its last
// wrapping says, which is no proof, see [Wrapping].
type KeyUse struct {
	ID      string
	Missing bool // no object holds it: nobody reads what is encrypted to it
	Retired bool // hosts write with it no more, see [Repo.RetireKeys]
	Known   bool // it names all whom it is for, and the recipients of the Cipher have names
	ForAll  bool // it is for all recipients of the Cipher
	Others  bool // it is, or may be, for others as well
}

// Strange tells that this host would not write with the key: it is retired or missing, or it is known that others read what is
// encrypted to it than those who read what this host writes now.
func (u KeyUse) Strange() bool {
	return u.Missing || u.Retired || u.Known && (!u.ForAll || u.Others)
}

// Lost tells that some of the recipients cannot read what is encrypted to the key.
func (u KeyUse) Lost() bool { return u.Missing || u.Known && !u.ForAll }

// UseOfKey tells about the data key that an object is encrypted to, by the key that [Repo.DataKeyOf] returned. It takes a
// listing and a request, and no identity.
func (r *Repo) UseOfKey(ctx context.Context, key string) (KeyUse, error) {
	if r.keys == nil {
		return KeyUse{}, ErrNotEncrypted
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(key, "keys/"), ".")
	var u KeyUse
	var err error
	for range 3 { // what is gone after it was listed was wrapped anew just then
		if u, err = r.keys.use(ctx, id); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return KeyUse{}, err
	}
	if current := r.keys.inHand(); current == id && !u.Missing && !u.Retired {
		u.Known, u.ForAll, u.Others = true, true, false // whoever they are
	}
	return u, nil
}

func (k *keyring) use(ctx context.Context, id string) (KeyUse, error) {
	found, err := k.list(ctx, id)
	if err != nil {
		return KeyUse{}, err
	}
	mine := k.cipher.Recipients()
	u := KeyUse{ID: id, Missing: true, Others: true}
	for _, of := range found {
		u.Retired = of.retired
		if len(of.wrapped) == 0 {
			continue
		}
		u.Missing = false
		wrapped, err := readSmall(ctx, k.store, of.wrapped[0].info.Key, maxWrapped)
		if err != nil && !isCorrupt(err) {
			return KeyUse{}, err
		}
		named, kinds, err := k.cipher.KeyHeader(wrapped)
		if err != nil {
			continue // it may be damaged, or planted, and another one hold the key
		}
		u.Known = len(named) > 0 && len(named) == len(kinds) && k.cipher.Fingerprint() != ""
		u.ForAll = !slices.ContainsFunc(mine, func(name string) bool { return !slices.Contains(named, name) })
		u.Others = len(named) != len(kinds) || slices.ContainsFunc(named, func(name string) bool { return !slices.Contains(mine, name) })
	}
	return u, nil
}

// inHand is the id of the data key that this process writes with, if it has written.
func (k *keyring) inHand() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hand
}

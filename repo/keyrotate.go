package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// keysLease is the lease of those who rotate keys.
const keysLease = "keys"

// maxRounds is how often a rotation looks for data keys that were made meanwhile.
const maxRounds = 5

// Rotation is what [Repo.RotateKeys] did, by ids of data keys.
type Rotation struct {
	Rewrapped []string `json:"rewrapped"` // are wrapped anew
	Unchanged []string `json:"unchanged"` // were wrapped to just these recipients before

	// Left are the keys that no identity at hand opens, or that are damaged: they are as they were. RotateKeys returns
	// them as a *[RotationError] as well.
	Left []LeftKey `json:"left"`

	// Kept are superseded objects that the store did not delete: those for whom they were made can still read what is
	// encrypted to these keys. To rotate again is to try again; where nobody may delete, see [Repo.RetireKeys].
	Kept []KeptWrapping `json:"kept"`
}

// LeftKey is a data key that could not be wrapped anew.
type LeftKey struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

// KeptWrapping is a superseded object that is still there.
type KeptWrapping struct {
	Wrapping

	Error string `json:"error"` // what the store said when it was to be deleted; may be empty
}

// RotationError means that some data keys could not be wrapped anew. The others were.
type RotationError struct {
	Left []LeftKey
}

func (e *RotationError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of the data keys are left as they were: give an identity that opens them as well", len(e.Left))
	for i, left := range e.Left {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d others", len(e.Left)-i)
			break
		}
		fmt.Fprintf(&b, "; %s: %s", left.ID, left.Error)
	}
	return b.String()
}

// LockoutError means that what is wrapped to the recipients at hand is opened by none of the identities at hand, so
// that nobody here could tell whether the repository can be read once its keys are rotated. Nothing was changed.
type LockoutError struct {
	Err error // of the cipher: whose identity it would take
}

func (e *LockoutError) Error() string {
	return "the keys would be wrapped to recipients of whom no identity is given: give one of theirs besides, or keep a recipient whose identity is given: " +
		e.Err.Error()
}
func (e *LockoutError) Unwrap() error { return e.Err }

// RotateKeys wraps every data key to the recipients of the Cipher, and to nobody else, without touching what is
// encrypted to them. The identities of the Cipher have to open the keys as they are, and to open what is wrapped to the
// recipients; otherwise it is a *[LockoutError]. Keys that they do not open are left, which is a *[RotationError] in
// the end.
//
// A key is wrapped anew as a new object. The ones before are deleted once it was read back and opens; where that is
// refused, the result says who can still read. It may be killed at any point, and be run again: keys that are wrapped to
// just these recipients stay as they are, where each of them can be told from others by its name. It works under the lease
// "keys", beside backups and pushes, and looks for the data keys that were made meanwhile.
//
// Hosts go on with the data keys they have, and wrap those they make to the recipients they were given. So tell them of
// new recipients before. Who had opened a data key before can read, with it, what is still written with it: that ends
// with [Repo.RetireKeys].
//
// The result tells what was done even when there is an error.
func (r *Repo) RotateKeys(ctx context.Context) (Rotation, error) {
	if r.keys == nil {
		return Rotation{}, ErrNotEncrypted
	}
	if err := r.keys.lockedOut(ctx); err != nil {
		return Rotation{}, err
	}
	t := rotation{k: r.keys, last: map[string]int{}, refused: map[string]error{}}
	t.result = Rotation{Rewrapped: []string{}, Unchanged: []string{}, Left: []LeftKey{}, Kept: []KeptWrapping{}}
	err := r.WithLease(ctx, keysLease, func(ctx context.Context, _ *Lease) error { return t.run(ctx) })
	return t.result, err
}

// lockedOut tries with a key that is thrown away whether what is wrapped now can be read by those who are here.
func (k *keyring) lockedOut(ctx context.Context) error {
	public, wrapped, err := k.cipher.NewKey()
	if err != nil {
		return fmt.Errorf("repo: %w", objerr.Failed(ctx, "make", "a data key", err))
	}
	if len(wrapped) > maxWrapped {
		return tooManyRecipients(len(wrapped))
	}
	again, _, err := k.cipher.OpenKey(wrapped)
	if err == nil && again != public {
		err = errors.New("another key came back")
	}
	if err != nil {
		return &LockoutError{Err: err}
	}
	return nil
}

// rotation is a rotation under way.
type rotation struct {
	k       *keyring
	result  Rotation
	last    map[string]int   // the wrapping that counts, by id of those keys that are done
	refused map[string]error // deletions, by object
}

func (t *rotation) run(ctx context.Context) error {
	for round := 0; ; round++ {
		all, err := t.k.list(ctx, "")
		if err != nil {
			return err
		}
		open := slices.DeleteFunc(slices.Clone(all), func(of keyObjects) bool { return t.done(of) })
		if len(open) == 0 {
			return t.finish(ctx, all)
		}
		if round == maxRounds {
			return fmt.Errorf("repo: rotate keys: hosts make data keys all the while, the last one %s: give them a StateDir, and rotate again", open[0].id)
		}
		for _, of := range open {
			if err := t.rotate(ctx, of); err != nil {
				return err
			}
		}
	}
}

// done tells whether nothing is left to be done about a key.
func (t *rotation) done(of keyObjects) bool {
	_, ok := t.last[of.id]
	return ok || len(of.wrapped) == 0 || slices.ContainsFunc(t.result.Left, func(left LeftKey) bool { return left.ID == of.id })
}

// rotate wraps one key anew and deletes what that supersedes.
func (t *rotation) rotate(ctx context.Context, of keyObjects) error {
	secret, source, err := t.secret(ctx, of)
	if errors.Is(err, errLeft) {
		return nil
	}
	if err != nil {
		return err
	}
	newest := of.wrapped[0].number
	if source.number != newest || !t.k.isForRecipients(source.bytes) {
		if newest, err = t.rewrap(ctx, of.id, secret, newest+1); err != nil {
			return err
		}
		t.result.Rewrapped = append(t.result.Rewrapped, of.id)
	} else {
		t.result.Unchanged = append(t.result.Unchanged, of.id)
	}
	t.last[of.id] = newest
	for _, w := range of.wrapped {
		if w.number < newest {
			if err := t.k.store.Delete(ctx, w.info.Key); err != nil {
				t.refused[w.info.Key] = err
			}
		}
	}
	return ctx.Err()
}

// source is a wrapping that has opened.
type source struct {
	number int
	bytes  []byte
}

// errLeft means that a key was noted as left.
var errLeft = errors.New("left")

// secret opens the newest wrapping that opens.
func (t *rotation) secret(ctx context.Context, of keyObjects) (string, source, error) {
	var reason error
	for _, w := range of.wrapped {
		b, err := readSmall(ctx, t.k.store, w.info.Key, maxWrapped)
		if errors.Is(err, fs.ErrNotExist) {
			return "", source{}, raced(w.info.Key)
		}
		if err != nil && !isCorrupt(err) {
			return "", source{}, err
		}
		if err == nil {
			var secret string
			if secret, err = t.k.unwrap(ctx, of.id, w.info.Key, b); err == nil {
				return secret, source{w.number, b}, nil
			}
		}
		if reason == nil {
			reason = err
		}
	}
	if err := ctx.Err(); err != nil {
		return "", source{}, err
	}
	t.result.Left = append(t.result.Left, LeftKey{ID: of.id, Error: reason.Error()})
	return "", source{}, errLeft
}

// isForRecipients tells whether a wrapping, that has opened, is for just those who are to read.
func (k *keyring) isForRecipients(wrapped []byte) bool {
	if k.cipher.Fingerprint() == "" {
		return false
	}
	named, kinds, err := k.cipher.KeyHeader(wrapped)
	if err != nil || len(named) != len(kinds) {
		return false // it is for somebody who is not named, or names somebody it is not for
	}
	set := func(names []string) []string {
		names = slices.Clone(names)
		slices.Sort(names)
		return slices.Compact(names)
	}
	return slices.Equal(set(named), set(k.cipher.Recipients()))
}

// rewrap stores a new wrapping, of a number from the given one on, and returns its number once it can be read.
func (t *rotation) rewrap(ctx context.Context, id, secret string, number int) (int, error) {
	wrapped, err := t.k.cipher.WrapKey(secret)
	if err != nil {
		return 0, fmt.Errorf("repo: %w", objerr.Failed(ctx, "wrap", "data key "+id, err))
	}
	if len(wrapped) > maxWrapped {
		return 0, tooManyRecipients(len(wrapped))
	}
	if again, err := t.k.unwrap(ctx, id, "of data key "+id, wrapped); err != nil || again != secret {
		return 0, fmt.Errorf("repo: data key %s, wrapped anew, does not open: %w", id, err)
	}
	for ; number <= maxWrapping; number++ {
		key := wrappingKey(id, number)
		err := writeSmall(ctx, t.k.store, key, wrapped)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return 0, err
		}
		there, rerr := readSmall(ctx, t.k.store, key, maxWrapped)
		switch {
		case rerr == nil && bytes.Equal(there, wrapped):
			return number, nil
		case err == nil && rerr == nil:
			return 0, corrupt(key, "it was read back as something else")
		case rerr != nil && !isCorrupt(rerr) && !errors.Is(rerr, fs.ErrNotExist):
			return 0, rerr
		case err == nil:
			return 0, objerr.Failed(ctx, "read back", key, rerr)
		}
		// Another one has that number.
	}
	return 0, fmt.Errorf("repo: %s has the last number there is: somebody has planted it; delete it", wrappingKey(id, maxWrapping))
}

// finish tells from a listing what has come of it all.
func (t *rotation) finish(ctx context.Context, all []keyObjects) error {
	for _, of := range all {
		last, ok := t.last[of.id]
		for _, w := range of.wrapped {
			if !ok || w.number == last {
				continue
			}
			if w.number > last {
				return raced(w.info.Key)
			}
			about, err := t.k.describe(ctx, of.id, w)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			kept := KeptWrapping{Wrapping: about}
			if err := t.refused[w.info.Key]; err != nil {
				kept.Error = err.Error()
			}
			t.result.Kept = append(t.result.Kept, kept)
		}
	}
	if len(t.result.Left) > 0 {
		return &RotationError{Left: t.result.Left}
	}
	return nil
}

// raced means that another rotation works at the same time, whose clock is another one: nothing is lost.
func raced(key string) error {
	return fmt.Errorf("repo: rotate keys: another rotation has been at %s: %w", key, ErrLeaseLost)
}

func tooManyRecipients(size int) error {
	return fmt.Errorf("repo: a wrapped data key of %d bytes, at most %d are allowed: too many recipients", size, maxWrapped)
}

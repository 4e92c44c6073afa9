package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Options are the options of [Init] and [Open]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// Cipher encrypts and decrypts the objects (see package crypto). Nil leaves them unencrypted. A repository is
	// encrypted from the first object to the last, or not at all: Init decides.
	Cipher Cipher

	// StateDir is a directory of this host, made when needed, where the public half of the current data key is kept, so
	// that short-lived processes do not each make a key of their own; package wal keeps there what it remembers (see
	// [Repo.StateDir]). It is trusted: what is read from the repository is not. Empty means that every Repo makes a data
	// key when it first writes.
	StateDir string

	// Now is the clock. The default is time.Now.
	Now func() time.Time

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// Repo is an open repository. It is safe for concurrent use.
type Repo struct {
	store  Store
	marker marker
	keys   *keyring // nil when unencrypted
	enc    encoders
	dec    *zstd.Decoder // of frames in an object whose sum is checked; its DecodeAll may be called concurrently
	lone   *zstd.Decoder // of frames that are checked by themselves
	now    func() time.Time
	log    *slog.Logger
	state  string // Options.StateDir

	frames sync.Pool // of *[]byte: memory of compressed frames that packs are waiting for
}

// Init makes a store a repository, or opens the one that is there: calling it again changes nothing. It proves first
// that the store refuses to create an object twice, on which everything else rests, and fails with [ErrUnsafeStore]
// where it does not. A store that has objects of a repository whose marker is gone is a *[MarkerError].
func Init(ctx context.Context, s Store, o *Options) (*Repo, error) {
	r, err := Open(ctx, s, o)
	if !errors.Is(err, ErrNoRepository) {
		return r, err
	}
	if o == nil {
		o = &Options{}
	}
	switch left, err := leftOf(ctx, s); {
	case err != nil:
		return nil, err
	case left != "":
		if r, err := Open(ctx, s, o); !errors.Is(err, ErrNoRepository) { // somebody else has made it since
			return r, err
		}
		return nil, &MarkerError{Key: left}
	}
	if err := Probe(ctx, s); err != nil {
		return nil, err
	}
	m := marker{Format: Format, ID: rand.Text(), Encryption: "none", CreatedAt: clock(o.Now)().UTC().Truncate(time.Second)}
	if o.Cipher != nil {
		m.Encryption = "age"
	}
	// Of two that race, one creates the marker and both open what it says.
	if err := createRecord(ctx, s, markerKey, m); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return Open(ctx, s, o)
}

// leftOf returns an object that only a repository has, or nothing.
func leftOf(ctx context.Context, s Store) (string, error) {
	for _, folder := range []string{"backups/", "keys/", "packs/", "systems/", "wal/"} {
		for info, err := range s.List(ctx, folder) {
			if err != nil {
				return "", fmt.Errorf("repo: list %s: %w", folder, err)
			}
			return info.Key, nil
		}
	}
	return "", nil
}

// Open opens a repository. A store that holds none is [ErrNoRepository], one of a later format a *[FormatError].
func Open(ctx context.Context, s Store, o *Options) (*Repo, error) {
	if o == nil {
		o = &Options{}
	}
	m, err := readMarker(ctx, s)
	if err != nil {
		return nil, err
	}
	r := &Repo{store: s, marker: m, enc: newEncoders(), now: clock(o.Now), log: o.Logger, state: o.StateDir}
	if r.dec, err = newFrameDecoder(false); err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	if r.lone, err = newFrameDecoder(true); err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case m.Encryption == "none" && o.Cipher != nil:
		return nil, ErrNotEncrypted
	case m.Encryption != "none" && o.Cipher == nil:
		return nil, ErrEncrypted
	case o.Cipher != nil:
		r.keys = &keyring{
			store: s, cipher: o.Cipher, repo: m.ID, dir: o.StateDir, now: r.now, log: r.log,
			writing: make(chan struct{}, 1), reading: make(chan struct{}, 1), secrets: map[string]string{},
		}
	}
	return r, nil
}

// ID identifies the repository: a random text made by [Init].
func (r *Repo) ID() string { return r.marker.ID }

// Encrypted tells whether the repository's objects are encrypted.
func (r *Repo) Encrypted() bool { return r.keys != nil }

// DataKey identifies the data key that this host encrypts to now, and with it those who can read what it writes; it is
// empty when the repository is not encrypted. Where there is none yet, one is made.
func (r *Repo) DataKey(ctx context.Context) (string, error) {
	if r.keys == nil {
		return "", nil
	}
	d, err := r.keys.writeKey(ctx)
	return d.ID, err
}

// Store is the store the repository is in. Objects that Repo's methods wrote are compressed, maybe encrypted, there.
func (r *Repo) Store() Store { return r.store }

// Now is the repository's clock, see [Options].
func (r *Repo) Now() time.Time { return r.now() }

// Probe proves that a store creates, reads and deletes objects, and refuses to create one twice. Where deleting is not
// permitted, as with append-only credentials, it leaves its small object behind.
func Probe(ctx context.Context, s Store) error {
	key := "probe/" + rand.Text()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = s.Delete(ctx, key)
	}()
	first, second := []byte("first "+key), []byte("second "+key)
	// A store that repeats a request whose answer was lost finds the key taken; what is there is read below.
	if err := writeSmall(ctx, s, key, first); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err := writeSmall(ctx, s, key, second)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err == nil {
		return ErrUnsafeStore
	}
	got, err := readSmall(ctx, s, key, maxRecord)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, first) {
		return ErrUnsafeStore
	}
	return nil
}

func clock(f func() time.Time) func() time.Time {
	if f == nil {
		return now
	}
	return f
}

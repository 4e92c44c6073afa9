package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/internal/objerr"
)

// keyIDSize is the size in bytes of a data key's id: the first half of the SHA-256 of its public half. An object put
// in the place of a key is thereby noticed.
const keyIDSize = 16

// keyCheck is for how long a data key is written with before the repository is asked again whether it is still in use.
const keyCheck = 5 * time.Minute

// maxWrapped bounds a wrapped data key in bytes. A post-quantum recipient takes 4.2 KiB of it.
const maxWrapped = 1 << 20

// dataKey is what it takes to write.
type dataKey struct {
	ID         string `json:"id"`
	Public     string `json:"public"`
	Recipients string `json:"recipients"` // fingerprint of those it is wrapped to
}

// keyring finds the data key to write with, and opens those to read with.
type keyring struct {
	store  Store
	cipher Cipher
	repo   string // id of the repository
	dir    string // state directory or empty
	now    func() time.Time
	log    *slog.Logger

	// Whoever has put something in may look for the key to write with, or open keys; waiting for it can be given up.
	writing, reading chan struct{}

	current *dataKey  // of who is writing
	asked   time.Time // when the repository was last asked for current

	mu      sync.Mutex
	hand    string            // id of current
	secrets map[string]string // secret halves by key id
}

// take waits for a lock of the keyring, which release gives back.
func take(ctx context.Context, lock chan struct{}) (release func(), err error) {
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("repo: wait for a data key: %w", ctx.Err())
	}
}

func keyID(public string) string {
	sum := sha256.Sum256([]byte(public))
	return hex.EncodeToString(sum[:keyIDSize])
}

func keyKey(id string) string { return "keys/" + id + ".age" }

// writeKey returns the data key that new objects are encrypted to. It is durable in the repository before it is
// returned for the first time.
func (k *keyring) writeKey(ctx context.Context) (dataKey, error) {
	release, err := take(ctx, k.writing)
	if err != nil {
		return dataKey{}, err
	}
	defer release()
	now := k.now()
	if since := now.Sub(k.asked); k.current != nil && since >= 0 && since < keyCheck {
		return *k.current, nil
	}
	candidates := make([]dataKey, 0, 2)
	if k.current != nil {
		candidates = append(candidates, *k.current)
	}
	// Another process of this host may have noticed first that the key is retired.
	if d, ok := k.remembered(); ok && !slices.Contains(candidates, d) {
		candidates = append(candidates, d)
	}
	for _, d := range candidates {
		ok, err := k.inUse(ctx, d.ID)
		if err != nil {
			return dataKey{}, err
		}
		if ok {
			k.hold(d, now)
			return d, nil
		}
	}
	public, wrapped, err := k.cipher.NewKey()
	if err != nil {
		return dataKey{}, fmt.Errorf("repo: %w", objerr.Failed(ctx, "make", "a data key", err))
	}
	if len(wrapped) > maxWrapped {
		return dataKey{}, tooManyRecipients(len(wrapped))
	}
	d := dataKey{ID: keyID(public), Public: public, Recipients: k.cipher.Fingerprint()}
	if err := k.put(ctx, d.ID, wrapped); err != nil {
		return dataKey{}, err
	}
	k.remember(ctx, d)
	k.hold(d, now)
	return d, nil
}

// hold has the next objects encrypted to a data key.
func (k *keyring) hold(d dataKey, now time.Time) {
	k.current, k.asked = &d, now
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hand = d.ID
}

// inUse asks the repository whether a data key may be written with: what is written with one that nobody can open is
// lost, and what is written with a retired one may be read by somebody who should not.
func (k *keyring) inUse(ctx context.Context, id string) (bool, error) {
	found, err := k.list(ctx, id)
	if err != nil {
		return false, fmt.Errorf("repo: look for data key: %w", err)
	}
	switch {
	case len(found) == 0 || len(found[0].wrapped) == 0:
		k.log.WarnContext(ctx, "the data key in use is missing from the repository; making a new one", "key", keyKey(id))
		return false, nil
	case found[0].retired:
		k.log.InfoContext(ctx, "the data key in use is retired; making a new one", "key", keyKey(id))
		return false, nil
	}
	return true, nil
}

// put stores a wrapped key. Nobody else can have made its id; so when the name is taken, the answer to an earlier try
// was lost on its way.
func (k *keyring) put(ctx context.Context, id string, wrapped []byte) error {
	err := writeSmall(ctx, k.store, keyKey(id), wrapped)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	have, rerr := readSmall(ctx, k.store, keyKey(id), maxWrapped)
	if rerr == nil && bytes.Equal(have, wrapped) {
		return nil
	}
	return objerr.Failed(ctx, "store", keyKey(id), errors.Join(err, rerr))
}

// secret returns the secret half of a data key. Its errors never match fs.ErrNotExist: a missing key is no answer to
// whether the object that needs it exists.
func (k *keyring) secret(ctx context.Context, id string) (string, error) {
	if secret, ok := k.known(id); ok {
		return secret, nil
	}
	release, err := take(ctx, k.reading)
	if err != nil {
		return "", err
	}
	defer release()
	if secret, ok := k.known(id); ok {
		return secret, nil
	}
	secret, err := k.open(ctx, id)
	if err != nil {
		return "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.secrets[id] = secret
	return secret, nil
}

// known returns a secret half that has been opened before.
func (k *keyring) known(id string) (secret string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	secret, ok = k.secrets[id]
	return secret, ok
}

func (k *keyring) stateFile() string {
	return filepath.Join(stateDir(k.dir, k.repo), "data-key.json")
}

// remembered returns the data key that this host used last, if it is wrapped to today's recipients.
func (k *keyring) remembered() (dataKey, bool) {
	fingerprint := k.cipher.Fingerprint()
	if k.dir == "" || fingerprint == "" {
		return dataKey{}, false
	}
	b, err := os.ReadFile(k.stateFile())
	if err != nil {
		return dataKey{}, false
	}
	var d dataKey
	if json.Unmarshal(b, &d) != nil || d.Recipients != fingerprint || keyID(d.Public) != d.ID {
		return dataKey{}, false
	}
	return d, true
}

// remember is best effort: without it the next process makes a key of its own. When another process remembers its key at
// this moment, that one serves the host as well.
func (k *keyring) remember(ctx context.Context, d dataKey) {
	if k.dir == "" || d.Recipients == "" {
		return
	}
	if err := k.writeState(d); err != nil && !errors.Is(err, durable.ErrBusy) {
		k.log.WarnContext(ctx, "cannot remember the data key: every process will make one", "error", err)
	}
}

func (k *keyring) writeState(d dataKey) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.stateFile()), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(k.stateFile(), 0o600, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

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
	"sync"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/internal/objerr"
)

// keyIDSize is the size in bytes of a data key's id: the first half of the SHA-256 of its public half. An object put
// in the place of a key is thereby noticed.
const keyIDSize = 16

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
	log    *slog.Logger

	mu      sync.Mutex
	current *dataKey
	secrets map[string]string // secret halves by key id
}

func keyID(public string) string {
	sum := sha256.Sum256([]byte(public))
	return hex.EncodeToString(sum[:keyIDSize])
}

func keyKey(id string) string { return "keys/" + id + ".age" }

// writeKey returns the data key that new objects are encrypted to. It is durable in the repository before it is
// returned for the first time.
func (k *keyring) writeKey(ctx context.Context) (dataKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil {
		return *k.current, nil
	}
	if d, ok := k.remembered(); ok {
		// What is written with a key that nobody can open is lost; so ask each time whether it is still there.
		_, err := k.store.Stat(ctx, keyKey(d.ID))
		if err == nil {
			k.current = &d
			return d, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return dataKey{}, fmt.Errorf("repo: look for data key: %w", err)
		}
		k.log.WarnContext(ctx, "the data key in use is missing from the repository; making a new one", "key", keyKey(d.ID))
	}
	public, wrapped, err := k.cipher.NewKey()
	if err != nil {
		return dataKey{}, fmt.Errorf("repo: %w", objerr.Failed(ctx, "make", "a data key", err))
	}
	if len(wrapped) > maxWrapped {
		return dataKey{}, fmt.Errorf("repo: a wrapped data key of %d bytes, at most %d are allowed: too many recipients", len(wrapped), maxWrapped)
	}
	d := dataKey{ID: keyID(public), Public: public, Recipients: k.cipher.Fingerprint()}
	if err := k.put(ctx, d.ID, wrapped); err != nil {
		return dataKey{}, err
	}
	k.remember(ctx, d)
	k.current = &d
	return d, nil
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
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.secrets[id]; ok {
		return s, nil
	}
	wrapped, err := readSmall(ctx, k.store, keyKey(id), maxWrapped)
	if errors.Is(err, fs.ErrNotExist) {
		return "", corrupt(keyKey(id), "the data key is missing: what it encrypts cannot be read")
	}
	if err != nil {
		return "", err
	}
	public, secret, err := k.cipher.OpenKey(wrapped)
	if errors.Is(err, fs.ErrInvalid) {
		return "", corrupt(keyKey(id), "%w", err)
	}
	if err != nil {
		return "", objerr.Failed(ctx, "open data key", keyKey(id), err)
	}
	if keyID(public) != id {
		return "", corrupt(keyKey(id), "it holds another key")
	}
	k.secrets[id] = secret
	return secret, nil
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

package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// dataKeyOf returns the first name that a data key had, by that of an object below keys/ that holds it; or nothing for one
// that does not.
func dataKeyOf(key string) string {
	id, _, _ := strings.Cut(key, ".")
	if !strings.HasSuffix(key, ".age") {
		return ""
	}
	return id + ".age"
}

// dataKeys are the objects that hold a data key, the latest first, by its first name.
func (v *verifier) dataKeys() map[string][]string {
	all := map[string][]string{}
	for _, key := range slices.Backward(v.folder("keys/")) {
		if of := dataKeyOf(key); of != "" {
			all[of] = append(all[of], key)
		}
	}
	return all
}

// keys opens all data keys. Of the objects that hold the same one, it takes one that opens.
func (v *verifier) keys(ctx context.Context) error {
	if !v.repo.Encrypted() {
		return nil
	}
	all := v.dataKeys()
	return each(ctx, v.waiting(), slices.Sorted(maps.Keys(all)), func(ctx context.Context, of string) error {
		failed := map[string]error{}
		for _, key := range all[of] {
			err := v.repo.CheckDataKey(ctx, key)
			var closed *repo.DataKeyError
			var corrupt *repo.CorruptError
			if err != nil && !errors.As(err, &closed) && !errors.As(err, &corrupt) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			failed[key] = err
		}
		opens := slices.ContainsFunc(all[of], func(key string) bool { return failed[key] == nil })
		for _, key := range all[of] {
			if err := v.judgeKey(ctx, of, key, failed[key], opens); err != nil {
				return err
			}
		}
		return nil
	})
}

// judgeKey decides what it means that an object that holds a data key does not open; opens tells whether another one does.
func (v *verifier) judgeKey(ctx context.Context, of, key string, err error, opens bool) error {
	var closed *repo.DataKeyError
	switch {
	case err == nil:
		return nil
	case opens:
		v.note("%s does not open, and holds a data key that another object holds as well: pgcairn key rotate sees to it (%v)", key, err)
		return nil
	}
	v.mu.Lock()
	v.badKeys[of] = true
	if v.keyAt[of] == "" {
		v.keyAt[of] = key
	}
	if errors.As(err, &closed) && closed.WriteOnly() {
		v.blind = true
		v.mu.Unlock()
		return nil
	}
	if v.chosen != nil {
		v.closed[of] = append(v.closed[of], closedKey{key, err})
		v.mu.Unlock()
		return nil
	}
	v.mu.Unlock()
	return v.findKey(ctx, closedKey{key, err})
}

// closedKey is an object that holds a data key and does not open.
type closedKey struct {
	key string
	err error
}

func (v *verifier) findKey(ctx context.Context, k closedKey) error {
	var closed *repo.DataKeyError
	if !errors.As(k.err, &closed) {
		return v.judge(ctx, k.key, k.err)
	}
	v.find(k.key, fmt.Errorf("it is damaged, or meant for another identity than those given: %w", closed.Err), false)
	return nil
}

// keysOfChosen finds, of the data keys that do not open, those that the chosen backups are encrypted to, and the WAL that makes
// them consistent: who can read these need not be one who reads all.
func (v *verifier) keysOfChosen(ctx context.Context) error {
	if len(v.closed) == 0 {
		return nil
	}
	var all []string
	for key := range v.objects {
		_, needed := v.needed[key]
		if _, ok := v.stored[key]; needed || ok && v.makesConsistent(key) || strings.HasPrefix(key, manifests) {
			all = append(all, key)
		}
	}
	return each(ctx, v.waiting(), all, func(ctx context.Context, key string) error {
		of, err := v.repo.DataKeyOf(ctx, key)
		var corrupt *repo.CorruptError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &corrupt) {
			return nil // which is another problem
		}
		if err != nil {
			return err
		}
		for _, k := range v.closed[of] {
			if err := v.findKey(ctx, k); err != nil {
				return err
			}
		}
		return nil
	})
}

// front reads the front of an object, which is all of it that can be read where nothing can be decrypted, and finds out whether
// the data key is there that it names.
func (v *verifier) front(ctx context.Context, key string) error {
	of, err := v.repo.DataKeyOf(ctx, key)
	if err != nil || of == "" {
		return err
	}
	v.mu.Lock()
	if v.keysThere == nil {
		v.keysThere = map[string]bool{}
		for id := range v.dataKeys() {
			v.keysThere[id] = true
		}
	}
	known := v.keysThere[of] || v.findings[of] != nil
	v.mu.Unlock()
	if known {
		return nil
	}
	// It may have been wrapped anew, or have been made since the keys were listed.
	for info, err := range v.repo.Store().List(ctx, strings.TrimSuffix(of, "age")) {
		if err != nil {
			return err
		}
		if dataKeyOf(info.Key) == of {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.keysThere[of] = true
			return nil
		}
	}
	v.find(of, errGone, true)
	return nil
}

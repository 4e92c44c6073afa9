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
	if !errors.As(err, &closed) {
		v.mu.Unlock()
		return v.judge(ctx, key, err)
	}
	v.blind = v.blind || closed.WriteOnly()
	v.mu.Unlock()
	if !closed.WriteOnly() {
		v.find(key, fmt.Errorf("it is damaged, or meant for another identity than those given: %w", closed.Err), false)
	}
	return nil
}

// front reads the front of an object, which is all of it that can be read where nothing can be decrypted, and finds out whether
// the data key is there that it names.
func (v *verifier) front(ctx context.Context, key string) error {
	of, err := v.repo.DataKeyOf(ctx, key)
	if err != nil || of == "" {
		return err
	}
	if _, ok := v.objects[of]; ok {
		return nil
	}
	v.mu.Lock()
	known := v.findings[of] != nil
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
			return nil
		}
	}
	v.find(of, errGone, true)
	return nil
}

package repo

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

func (d *dirStore) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		dir, base := path.Split(prefix)
		(&dirWalk{d: d, ctx: ctx, yield: yield}).walk(dir, base)
	}
}

// dirWalk is one listing under way. It holds the entries of one directory, and of those above it, at a time.
type dirWalk struct {
	d     *dirStore
	ctx   context.Context
	yield func(Info, error) bool
}

// walk lists dir, which is empty or ends in a slash, and what lies below it, leaving out the names in dir itself that
// do not begin with base. It returns false when the listing is over.
func (w *dirWalk) walk(dir, base string) bool {
	entries, err := w.entries(dir, base)
	if err != nil {
		return w.fail(dir, err)
	}
	for _, e := range entries {
		key := dir + e.Name()
		if e.IsDir() {
			if !w.walk(key+"/", "") {
				return false
			}
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return w.fail(dir, err)
		}
		fi, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // deleted meanwhile
		case err == nil && !fi.Mode().IsRegular():
			// To pass over a link to where the files really are would be to say that there are none.
			err = errIrregular
		}
		if err != nil {
			return w.fail(key, err)
		}
		if !w.yield(fileInfo(key, fi), nil) {
			return false
		}
	}
	return true
}

func (w *dirWalk) fail(key string, err error) bool {
	w.yield(Info{}, objerr.Failed(w.ctx, "list", key, err))
	return false
}

// entries returns the entries of dir that begin with base and can be part of a key, in the order of the keys they make.
func (w *dirWalk) entries(dir, base string) ([]fs.DirEntry, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	f, err := w.d.root.Open(path.Join(".", dir))
	if err == nil {
		defer f.Close()
		var all []fs.DirEntry
		if all, err = f.ReadDir(-1); err == nil {
			all = slices.DeleteFunc(all, func(e fs.DirEntry) bool {
				return !strings.HasPrefix(e.Name(), base) || badText(e.Name()) != "" || badElement(e.Name()) != ""
			})
			slices.SortFunc(all, func(a, b fs.DirEntry) int { return cmp.Compare(sortName(a), sortName(b)) })
			return all, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return nil, err
}

// sortName is what orders a directory's entries as the keys that begin with them: "a-b" comes before "a/b".
func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

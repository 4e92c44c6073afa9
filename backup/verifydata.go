package backup

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// data reads the content that is due.
func (v *verifier) data(ctx context.Context) error {
	if !v.options.ReadData {
		return nil
	}
	due, err := v.due(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.progress.TotalObjects = len(due)
	for _, size := range due {
		v.progress.TotalBytes += size
	}
	v.mu.Unlock()
	err = v.readAll(ctx, due)
	if !v.blind && !v.options.NoReceipt {
		v.keepChecked(ctx, err == nil)
	}
	return err
}

func (v *verifier) readAll(ctx context.Context, due map[string]int64) error {
	if v.blind {
		return each(ctx, v.waiting(), sortedKeys(due), func(ctx context.Context, key string) error {
			return v.done(ctx, key, due[key], v.front(ctx, key))
		})
	}
	if err := v.readPacks(ctx, due); err != nil {
		return err
	}
	return v.readOthers(ctx, due)
}

// due chooses what to read: what is needed, and was not read lately, or not in its present size; of that, a sample.
func (v *verifier) due(ctx context.Context) (map[string]int64, error) {
	before, err := v.readChecked(ctx)
	if err != nil {
		return nil, err
	}
	now := v.repo.Now()
	due := map[string]int64{}
	for key, size := range v.objects {
		if !v.hasContent(key) || v.findings[key] != nil {
			continue
		}
		was, ok := before.objects[key]
		if ok && was.size == size && v.options.MaxAge > 0 && now.Sub(was.at) < v.options.MaxAge {
			v.report.skip(size, was.at)
			continue
		}
		due[key] = size
	}
	if v.options.Sample <= 0 {
		return due, nil
	}
	keys := sortedKeys(due)
	v.options.Random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	left, full := v.options.Sample, false
	for i, key := range keys {
		// The first is read however large it is, and none after one that does not fit: else what is large had its turn last, or never.
		if full = full || i > 0 && due[key] > left; !full {
			left -= due[key]
			continue
		}
		v.report.LeftObjects++
		v.report.LeftBytes += due[key]
		delete(due, key)
	}
	return due, nil
}

// hasContent tells whether an object has content to read, besides manifests and records, which are always read.
func (v *verifier) hasContent(key string) bool {
	if _, ok := v.stored[key]; !ok && strings.HasPrefix(key, serverManifests) {
		return true
	}
	return v.counts(key) && (v.needed[key] > 0 || v.stored[key].Key != "")
}

// readPacks reads the packs that are due, each as a manifest describes it.
func (v *verifier) readPacks(ctx context.Context, due map[string]int64) error {
	left := map[string]bool{}
	for key := range due {
		if _, ok := v.needed[key]; ok {
			left[key] = true
		}
	}
	for _, b := range v.backups {
		if len(left) == 0 {
			return nil
		}
		m, err := Load(ctx, v.repo, b.ID)
		if err != nil {
			if err := v.judge(ctx, b.ID.manifestKey(), err); err != nil {
				return err
			}
			continue
		}
		var packs []repo.Pack
		for _, p := range m.PackList {
			if left[p.Key] {
				packs = append(packs, p.Pack)
				delete(left, p.Key)
			}
		}
		err = each(ctx, v.jobs, packs, func(ctx context.Context, p repo.Pack) error {
			err := v.repo.ReadPack(ctx, p, func(i int, _ []byte) error { return v.pace.Wait(ctx, p.Frames[i].Stored) })
			return v.done(ctx, p.Key, p.Size, err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readOthers reads what is due besides packs: WAL, and what servers say of backups.
func (v *verifier) readOthers(ctx context.Context, due map[string]int64) error {
	a, err := wal.NewArchive(v.repo, nil)
	if err != nil {
		return err
	}
	var keys []string
	for _, key := range sortedKeys(due) {
		if _, ok := v.needed[key]; !ok {
			keys = append(keys, key)
		}
	}
	return each(ctx, v.jobs, keys, func(ctx context.Context, key string) error {
		if err := v.pace.Wait(ctx, int(due[key])); err != nil {
			return err
		}
		var err error
		if o, ok := v.stored[key]; ok {
			err = a.CheckStored(ctx, o)
		} else {
			err = readObject(ctx, v.repo, key)
		}
		return v.done(ctx, key, due[key], err)
	})
}

func readObject(ctx context.Context, r *repo.Repo, key string) error {
	obj, err := r.OpenObject(ctx, key)
	if err != nil {
		return err
	}
	defer obj.Close()
	_, err = io.Copy(io.Discard, obj)
	return err
}

// done takes down what became of reading an object.
func (v *verifier) done(ctx context.Context, key string, size int64, err error) error {
	if errors.Is(err, fs.ErrNotExist) && (v.stored[key].Key != "" || strings.HasPrefix(key, serverManifests)) {
		v.vanished(key)
		return nil
	}
	if err := v.judge(ctx, key, err); err != nil {
		return err
	}
	v.mu.Lock()
	v.progress.Objects++
	v.progress.Bytes += size
	if !v.blind { // else it was a label
		v.report.ReadObjects++
		v.report.ReadBytes += size
	}
	v.mu.Unlock()
	if err == nil && !v.blind {
		v.checked.add(key, size, v.repo.Now())
		v.checkpoint(ctx)
	}
	return nil
}

// vanished takes down that an object of the archive was deleted since it was listed. Whether that matters, what is left
// tells: pieces become segments, and WAL that is not needed any more goes.
func (v *verifier) vanished(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = append(v.gone, key)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, cmp.Compare[string])
	return keys
}

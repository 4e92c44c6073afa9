package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// list takes down what there is. Manifests come before packs, and pieces before the segments that they become.
func (v *verifier) list(ctx context.Context) error {
	prefixes := []string{""}
	if v.chosen != nil {
		prefixes = []string{"keys/", "pieces/", "systems/", "wal/"}
		for id := range v.chosen {
			info, err := v.repo.Store().Stat(ctx, id.manifestKey())
			if err != nil {
				return err
			}
			v.objects[info.Key] = info.Size
		}
	}
	for _, prefix := range prefixes {
		if err := v.listPrefix(ctx, prefix); err != nil {
			return err
		}
	}
	for key := range v.objects {
		if rest, ok := strings.CutPrefix(key, manifests); ok {
			id, err := ParseID(rest)
			if err != nil {
				v.find(key, err, false)
				continue
			}
			v.ids = append(v.ids, id)
		}
	}
	slices.Sort(v.ids)
	return nil
}

func (v *verifier) listPrefix(ctx context.Context, prefix string) error {
	for info, err := range v.repo.Store().List(ctx, prefix) {
		if err != nil {
			return err
		}
		v.objects[info.Key] = info.Size
	}
	return nil
}

// folder returns the keys of the objects in a folder, in order.
func (v *verifier) folder(prefix string) []string {
	var keys []string
	for key := range v.objects {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

const (
	markerKey   = "pgcairn.json"
	leaseFolder = "leases/"
)

// records reads the records: the marker, whom the repository belongs to, receipts, pins and leases. A pin that cannot be read
// keeps all of them from being known; by one that can, a backup that is not there any more is missing.
func (v *verifier) records(ctx context.Context) error {
	keys := append([]string{markerKey}, v.folder("systems/")...)
	keys = slices.Concat(keys, v.folder(receiptFolder), v.folder(pinFolder), v.folder(leaseFolder))
	err := each(ctx, v.waiting(), keys, func(ctx context.Context, key string) error {
		err := v.record(ctx, key)
		if errors.Is(err, fs.ErrNotExist) && key != markerKey && !strings.HasPrefix(key, "systems/") {
			return nil // pruned by another run, or followed by another of its kind
		}
		return v.judge(ctx, key, err)
	})
	if err != nil {
		return err
	}
	if v.chosen == nil {
		if err := v.pinned(ctx); err != nil {
			return err
		}
	}
	n := len(v.folder("systems/"))
	for i := range n {
		key := fmt.Sprintf("systems/%d", i+1)
		if _, ok := v.objects[key]; !ok {
			v.find(key, errGone, true)
		}
	}
	a, err := wal.NewArchive(v.repo, nil)
	if err != nil {
		return err
	}
	v.systems, err = a.Systems(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody's yet
	}
	return v.judge(ctx, "systems/1", err)
}

// pinned looks for the manifests of pinned backups: no retention drops these.
func (v *verifier) pinned(ctx context.Context) error {
	pinned, err := Pinned(ctx, v.repo)
	if unreadable := (*UnreadableError)(nil); err != nil && !errors.As(err, &unreadable) {
		return err
	}
	for key := range v.findings { // a pin that cannot be read does not tell
		if id, _, err := parsePinKey(key); err == nil {
			delete(pinned, id)
		}
	}
	lost, err := lostPinned(ctx, v.repo, pinned, v.ids)
	if err != nil {
		return err
	}
	for _, err := range lost {
		var gone *UnreadableError
		if errors.As(err, &gone) {
			v.find(gone.Key, gone.Err, true)
		}
	}
	return nil
}

// record reads a record.
func (v *verifier) record(ctx context.Context, key string) error {
	if !strings.HasPrefix(key, pinFolder) {
		return v.repo.ReadRecord(ctx, key, &struct{}{})
	}
	if _, _, err := parsePinKey(key); err != nil {
		return err
	}
	return v.repo.ReadRecord(ctx, key, &pinRecord{})
}

// manifests reads all manifests, and takes down which packs they name.
func (v *verifier) manifests(ctx context.Context) error {
	if v.blind {
		v.note("this host has no identity to decrypt with: names, sizes and labels were looked at, and no content")
		v.report.ReadData = false
	}
	unknown := 0
	read := make([]*Summary, len(v.ids))
	err := each(ctx, v.jobs, numbers(len(v.ids)), func(ctx context.Context, i int) error {
		m, err := v.load(ctx, v.ids[i])
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted since it was listed
		}
		if m == nil && err == nil {
			v.mu.Lock()
			defer v.mu.Unlock()
			unknown++
			return nil
		}
		if m == nil {
			return v.judge(ctx, v.ids[i].manifestKey(), err)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, p := range m.PackList {
			if size, ok := v.needed[p.Key]; ok && size != p.Size {
				v.findLocked(m.ID.manifestKey(), fmt.Errorf("of pack %s it says that it has %d bytes, and another manifest %d", p.Key, p.Size, size))
				continue
			}
			v.needed[p.Key] = p.Size
		}
		s := m.Summary
		read[i] = &s
		return nil
	})
	for _, s := range read {
		if s != nil {
			v.backups = append(v.backups, s)
		}
	}
	v.report.Backups = len(v.backups)
	if unknown > 0 {
		v.note("this host has no copies of the manifests of %s: what these need was not looked for", count(unknown, "backup"))
		v.report.Whole = false
	}
	return err
}

// load reads a manifest. Where nothing can be decrypted, it is the host's copy; nil is that there is none.
func (v *verifier) load(ctx context.Context, id ID) (*Manifest, error) {
	if !v.blind {
		return Load(ctx, v.repo, id)
	}
	if err := v.front(ctx, id.manifestKey()); err != nil {
		return nil, err
	}
	m, err := copiesOf(v.repo).read(id)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // as documented
	}
	return m, nil
}

// archives takes down what there is of WAL, and reads the histories.
func (v *verifier) archives(ctx context.Context) error {
	for _, b := range v.backups { // also where the record is damaged that tells
		s := wal.System{ID: b.SystemID, SegmentSize: b.WALSegmentSize}
		if !slices.Contains(v.systems, s) {
			v.systems = append(v.systems, s)
		}
	}
	var histories []wal.Stored
	for _, folder := range []string{"pieces/", "wal/", "indexes/"} {
		for _, key := range v.folder(folder) {
			o, err := wal.ParseStored(repo.Info{Key: key, Size: v.objects[key]}, v.systems)
			if err != nil {
				v.find(key, err, false)
				continue
			}
			v.stored[key] = o
			if o.Kind == wal.StoredHistory && !v.blind {
				histories = append(histories, o)
			}
		}
	}
	a, err := wal.NewArchive(v.repo, nil)
	if err != nil {
		return err
	}
	return each(ctx, v.waiting(), histories, func(ctx context.Context, o wal.Stored) error {
		h, err := a.ReadHistory(ctx, o)
		if err != nil {
			return v.judge(ctx, o.Key, err)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.history[o.System.ID] == nil {
			v.history[o.System.ID] = map[wal.Timeline]wal.History{}
		}
		v.history[o.System.ID][h.Timeline] = h
		return nil
	})
}

// presence compares the packs that there are with those that manifests name.
func (v *verifier) presence(ctx context.Context) error {
	if v.chosen != nil {
		folders := map[string]bool{}
		for key := range v.needed {
			folders[key[:strings.LastIndexByte(key, '/')+1]] = true
		}
		for folder := range folders {
			if err := v.listPrefix(ctx, folder); err != nil {
				return err
			}
		}
	}
	for key, size := range v.needed {
		switch have, ok := v.objects[key]; {
		case !ok:
			v.find(key, errGone, true)
		case have != size:
			v.find(key, fmt.Errorf("it has %d bytes, and should have %d", have, size), false)
		}
	}
	for _, key := range v.folder(packFolder) {
		if _, ok := v.needed[key]; !ok && v.chosen == nil && !v.blind {
			v.report.Orphans++
			v.report.OrphanBytes += v.objects[key]
		}
	}
	for key, size := range v.objects {
		if v.counts(key) {
			v.report.Objects++
			v.report.Bytes += size
		}
	}
	return nil
}

// counts tells whether an object is one that is verified.
func (v *verifier) counts(key string) bool {
	if _, ok := v.needed[key]; ok {
		return true
	}
	if _, ok := v.stored[key]; ok {
		return v.chosen == nil || v.makesConsistent(key)
	}
	return key == markerKey || strings.HasPrefix(key, manifests) || strings.HasPrefix(key, "systems/") || strings.HasPrefix(key, "keys/") ||
		strings.HasPrefix(key, serverManifests) || strings.HasPrefix(key, receiptFolder) || strings.HasPrefix(key, pinFolder) ||
		strings.HasPrefix(key, leaseFolder)
}

// makesConsistent tells whether a chosen backup needs an object of the archive to become consistent.
func (v *verifier) makesConsistent(key string) bool {
	o := v.stored[key]
	return slices.ContainsFunc(v.backups, func(b *Summary) bool {
		if o.System.ID != b.SystemID || o.Segment.Timeline != b.Timeline {
			return false
		}
		n := o.Segment.Number
		whole := o.Kind == wal.StoredSegment || o.Kind == wal.StoredPiece
		return o.Kind == wal.StoredHistory || whole && b.FirstSegment().Number <= n && n <= b.LastSegment().Number
	})
}

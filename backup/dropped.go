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

// droppedFolder has a record of each backup that is being dropped, by its ID, until that is done.
const droppedFolder = "dropped/"

// DroppedKey is the key of the record by [Needs.Mark] of a backup.
func DroppedKey(id ID) string { return droppedFolder + string(id) }

// droppedRecord is the content of dropped/<backup id>: which packs the backup needs.
type droppedRecord struct {
	Packs []droppedPacks `json:"packs"`
}

// droppedPacks are packs that were written for a backup, by their numbers; both ends are of them.
type droppedPacks struct {
	Backup ID     `json:"backup"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
}

// maxDropped bounds what a record tells. What it does not is taken for what a killed backup has left.
const maxDropped = 500

// Mark takes down in the repository that a backup is about to be dropped, and what it needs, for [Needs.Orphans] to know that
// once the manifest is gone. The record is for its caller to delete, by [DroppedKey], when nothing is left of the backup.
func (n *Needs) Mark(ctx context.Context, id ID) error {
	if err := n.read(ctx, []ID{id}); err != nil {
		return err
	}
	var record droppedRecord
	for _, of := range slices.Sorted(maps.Keys(n.packs[id])) {
		for _, run := range n.packs[id][of] {
			record.Packs = append(record.Packs, droppedPacks{of, run.first, run.last})
		}
	}
	record.Packs = record.Packs[:min(len(record.Packs), maxDropped)]
	err := n.repo.CreateRecord(ctx, DroppedKey(id), record)
	if err != nil && !errors.Is(err, fs.ErrExist) { // a run before was killed, and has said the same
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// markedPacks returns what marked backups need that are not there any more. A record that cannot be read tells nothing.
func (n *Needs) markedPacks(ctx context.Context, there []ID) (packSet, error) {
	all := packSet{}
	for info, err := range n.repo.Store().List(ctx, droppedFolder) {
		if err != nil {
			return nil, fmt.Errorf("backup: list what is being dropped: %w", err)
		}
		id := ID(strings.TrimPrefix(info.Key, droppedFolder))
		if slices.Contains(there, id) {
			continue
		}
		var record droppedRecord
		var corrupt *repo.CorruptError
		err = n.repo.ReadRecord(ctx, info.Key, &record)
		if err != nil && !errors.As(err, &corrupt) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("backup: %w", err)
		}
		for _, p := range record.Packs {
			all[p.Backup] = append(all[p.Backup], packRun{p.First, p.Last})
		}
	}
	for of, runs := range all {
		all[of] = joined(runs)
	}
	return all, nil
}

// joined makes runs of several sets those of one.
func joined(runs []packRun) (out []packRun) {
	slices.SortFunc(runs, func(a, b packRun) int { return int(min(max(int64(a.first)-int64(b.first), -1), 1)) })
	for _, r := range runs {
		if n := len(out); n > 0 && r.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, r.last)
			continue
		}
		out = append(out, r)
	}
	return out
}

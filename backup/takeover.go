package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"github.com/pgcairn/pgcairn/repo"
	"golang.org/x/sync/errgroup"
)

// leftPack is a pack that a killed backup has left, and what it says of itself.
type leftPack struct {
	info  repo.Info
	notes *packNotes
}

// takeOver returns what killed backups have left, or nil. What still fits is found by content alone: a frame is kept when
// the files hold just its bytes now, and these were to be stored. So it does not matter which server wrote it, with which
// settings, or how long ago. What cannot be had is stored anew, whatever the reason. most is how many bytes there are to
// be stored at most: what has stored far more than that was of another kind, and little of it would be of use.
func (t *taker) takeOver(ctx context.Context, there []ID, id ID, most int64) (*Manifest, error) {
	var left []repo.Info
	var err error
	if t.manifest.Type == Full {
		left, err = t.leftPacks(ctx, there, id)
	} else {
		left, err = t.leftSince(ctx, there, id)
		left = upTo(left, most)
	}
	if err == nil && len(left) > 0 {
		// What a retention deletes that was killed is not for anybody to build on.
		var marked packSet
		marked, err = NewNeeds(t.repo).markedPacks(ctx, there)
		left = slices.DeleteFunc(left, func(info repo.Info) bool {
			of, n, _ := parsePackKey(info.Key)
			return marked.has(of, n)
		})
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		t.log.WarnContext(ctx, "what killed backups have left cannot be looked for, and is stored anew", "error", err)
		return nil, nil
	}
	if len(left) == 0 {
		return nil, nil
	}
	readable := t.readNotes(ctx, left)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(readable) == 0 {
		return nil, nil
	}
	size := int64(0)
	for _, p := range readable {
		size += p.info.Size
	}
	t.log.InfoContext(ctx, "killed backups have left packs: what still fits is taken over", "packs", len(readable), "bytes", size)
	return leftManifest(readable), nil
}

// leftPacks lists the packs that were written after the newest full backup and that no manifest names, in the order of
// their keys. A full backup has taken over what was to be had of those before it.
func (t *taker) leftPacks(ctx context.Context, there []ID, id ID) ([]repo.Info, error) {
	since, later := ID(""), []ID(nil) // of later ones the packs are known
	for _, id := range slices.Backward(there) {
		full, err := t.isFull(ctx, id)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if errors.Is(err, fs.ErrNotExist) { // deleted since it was listed
			continue
		}
		if err != nil || full { // one that cannot be read may have taken over what was before it
			since = id
			break
		}
		later = append(later, id)
	}
	var left []repo.Info
	for info, err := range t.repo.Store().List(ctx, packFolder+common(string(since), string(id))) {
		if err != nil {
			return nil, fmt.Errorf("list packs: %w", err)
		}
		of, _, ok := parsePackKey(info.Key)
		if _, listed := slices.BinarySearch(there, of); ok && !listed && of > since {
			left = append(left, info)
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	// The manifest that a pack was written for may have been deleted when others already built on it.
	needs := NewNeeds(t.repo)
	if err := needs.read(ctx, later); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(left, func(info repo.Info) bool {
		of, n, _ := parsePackKey(info.Key)
		return needs.needed(later, of, n)
	}), nil
}

// leftSince lists the packs that were written after the newest backup, of which no manifest knows, in the order of their
// keys: that backup has seen to those before it, as far as they are of use for a difference. This host remembers what it has
// left in an encrypted repository, so that it need not ask; what others have left there is for the next full backup.
// Elsewhere it takes a few requests to know.
func (t *taker) leftSince(ctx context.Context, there []ID, id ID) (left []repo.Info, err error) {
	since := there[len(there)-1]
	prefixes := prefixesBetween(since, id)
	if own, known := t.packCopies().backups(); known {
		prefixes = nil
		for _, of := range own {
			if of > since {
				prefixes = append(prefixes, string(of)+"/")
			}
		}
	}
	for _, prefix := range prefixes {
		for info, err := range t.repo.Store().List(ctx, packFolder+prefix) {
			if err != nil {
				return nil, fmt.Errorf("list packs: %w", err)
			}
			if of, _, ok := parsePackKey(info.Key); ok && of > since {
				left = append(left, info)
			}
		}
	}
	return left, nil
}

// upTo leaves out the packs of backups that have stored more than twice as much as there is to be stored at most.
func upTo(left []repo.Info, most int64) []repo.Info {
	sizes := map[ID]int64{}
	for _, info := range left {
		of, _, _ := parsePackKey(info.Key)
		sizes[of] += info.Size
	}
	return slices.DeleteFunc(left, func(info repo.Info) bool {
		of, _, _ := parsePackKey(info.Key)
		return sizes[of]/2 > most
	})
}

// prefixesBetween are what IDs from one to another begin with, in ascending order: a few, and of few IDs that are not
// between them, be it of a full backup with a great many packs.
func prefixesBetween(from, to ID) (all []string) {
	same := common(string(from), string(to))
	if len(same) >= len(idTime) { // of the same second
		return []string{same}
	}
	for c := from[len(same)]; c <= to[len(same)]; c++ {
		all = append(all, same+string(c))
	}
	return all
}

// common is what two texts begin with.
func common(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// readNotes reads what packs say of themselves, and leaves out those that do not, or that are not for those to read who
// can read this backup.
func (t *taker) readNotes(ctx context.Context, left []repo.Info) []leftPack {
	now, err := t.repo.DataKey(ctx)
	if err != nil {
		t.log.WarnContext(ctx, "what killed backups have left is stored anew", "error", err)
		return nil
	}
	found := make([]leftPack, len(left))
	passed := passedOver{}
	take := func(i int, b []byte) {
		notes, err := decodePackNotes(left[i].Key, b)
		switch {
		case len(b) == 0:
			passed.note(left[i].Key, errors.New("it does not say what is in it"))
		case err != nil:
			passed.note(left[i].Key, err)
		case notes.dataKey != now:
			passed.note(left[i].Key, errors.New("it is encrypted to another data key"))
		case notes.stored() > left[i].Size:
			passed.note(left[i].Key, errors.New("it is shorter than it says"))
		default:
			found[i] = leftPack{info: left[i], notes: notes}
		}
	}
	kept := t.packCopies()
	var far []int // to be read from the repository
	for i, info := range left {
		if b, err := kept.read(info.Key); err == nil {
			take(i, b)
		} else {
			far = append(far, i)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0)) // mostly waits for the store
	for _, i := range far {
		g.Go(func() error {
			b, err := t.repo.Notes(gctx, left[i].Key)
			var corrupt *repo.CorruptError
			switch {
			case err == nil:
				take(i, b)
			case errors.As(err, &corrupt):
				passed.note(left[i].Key, err)
			default:
				return err // a store that fails, or a host without an identity: it is no better with the next
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		passed.note("", err)
	}
	found = slices.DeleteFunc(found, func(p leftPack) bool { return p.notes == nil })
	if passed.err != nil && ctx.Err() == nil {
		t.log.WarnContext(ctx, "packs that killed backups have left are passed over", "packs", len(left)-len(found), "first", passed.key, "error", passed.err)
	}
	return found
}

// passedOver is why a pack is not looked at: the first, by its key.
type passedOver struct {
	mu  sync.Mutex
	key string
	err error
}

func (p *passedOver) note(key string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil || key < p.key {
		p.key, p.err = key, err
	}
}

// stored is how many bytes the frames take in the pack.
func (n *packNotes) stored() (sum int64) {
	for _, f := range n.frames {
		sum += int64(f.Stored)
	}
	return sum
}

// leftManifest makes the manifest of a backup that has what packs hold, which are in the order of their keys, be it the
// same more than once. Nothing but its packs and the paths of its files means anything.
func leftManifest(left []leftPack) *Manifest {
	m := &Manifest{}
	var paths []string
	for _, p := range left {
		paths = append(paths, p.notes.files...)
	}
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		m.FileList = append(m.FileList, File{Path: p})
	}
	for _, p := range left {
		index := make([]int, len(p.notes.files))
		for i, name := range p.notes.files {
			index[i], _ = slices.BinarySearchFunc(m.FileList, name, func(f File, name string) int { return cmp.Compare(f.Path, name) })
		}
		for _, pieces := range p.notes.pieces {
			for i := range pieces {
				pieces[i].File = index[pieces[i].File]
			}
		}
		m.PackList = append(m.PackList, PackPieces{
			Pack:   repo.Pack{Key: p.info.Key, Size: p.info.Size, Frames: p.notes.frames},
			Pieces: p.notes.pieces,
		})
	}
	return m
}

// stillThere finds what was taken over and deleted since by somebody who does not hold the lease.
func (t *taker) stillThere(ctx context.Context, taken []PackPieces) error {
	there := map[string]int64{}
	last := ID("")
	for _, p := range taken { // in the order of the keys, and so of the backups
		id, _, _ := parsePackKey(p.Key)
		if id != last {
			last = id
			clear(there)
			for info, err := range t.repo.Store().List(ctx, packFolder+string(id)+"/") {
				if err != nil {
					return fmt.Errorf("backup: look for what was taken over: %w", err)
				}
				there[info.Key] = info.Size
			}
		}
		if size, ok := there[p.Key]; !ok || size != p.Size {
			return fmt.Errorf("backup: pack %s, which was taken over, was deleted meanwhile: try again, and let nobody delete packs without the lease %q", p.Key, LeaseName)
		}
	}
	return nil
}

// reused counts the bytes, as stored, of what is taken over.
func reused(kept []PackPieces) (sum int64) {
	for i := range kept {
		for f := range kept[i].Frames {
			if kept[i].Needs(f) {
				sum += int64(kept[i].Frames[f].Stored)
			}
		}
	}
	return sum
}

// keepNotes keeps what a pack says of itself. Failing to costs a later backup what it could have taken over, and nothing
// else; so it is worth one warning.
func (t *taker) keepNotes(ctx context.Context, key string, notes []byte) {
	if err := t.packCopies().write(key, notes); err != nil && !t.warned.Swap(true) {
		t.log.WarnContext(ctx, "cannot keep what is in packs, in case this backup is killed", "first", key, "error", err)
	}
}

// forgetNotes removes what was kept of packs that a manifest describes now, or that are gone: those of this backup, those
// that it has taken over and, with a full one, all others, of which it has taken over what was to be had.
func (t *taker) forgetNotes(ctx context.Context, id ID, taken []PackPieces) {
	kept := t.packCopies()
	err := kept.forget(id)
	for _, p := range taken {
		err = errors.Join(err, kept.forgetPack(p.Key))
	}
	if t.manifest.Type == Full && t.manifest.ID == id {
		err = kept.forgetAll()
	}
	if err != nil {
		t.log.WarnContext(ctx, "cannot remove what was kept of packs", "error", err)
	}
}

package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/zeebo/xxh3"
)

// What [Verify] has read and found right is taken down in objects checked/<id>, of lines of JSON, as repo/FORMAT.md
// describes. Each has some of it; one that repeats all of those before it says so, and these are deleted. They are not
// encrypted: they say no more than a list of the store, and a host that only reads has nothing to encrypt to.
const (
	checkedFolder  = "checked/"
	checkedVersion = 1
	checkedALine   = 1000 // objects
	maxCheckedLine = 2 << 20
	xxhSize        = 16

	clockSkew = time.Minute // by which the clocks of hosts may differ
)

// checkedHead is the first line.
type checkedHead struct {
	Version  int      `json:"pgcairn_checked"`
	Merged   ID       `json:"merged,omitempty"`    // up to this one, all are repeated in this one
	DataKeys []string `json:"data_keys,omitempty"` // that there were
}

// checkedLine is any other: objects in a folder that were read at a time.
type checkedLine struct {
	At      time.Time     `json:"at"`
	Folder  string        `json:"folder"`
	Objects []checkedFile `json:"objects"`
}

// checkedFile is a name in the folder, and a size in bytes: ["00000001",4711].
type checkedFile struct {
	name string
	size int64
}

// MarshalJSON implements json.Marshaler.
func (f checkedFile) MarshalJSON() ([]byte, error) { return json.Marshal([]any{f.name, f.size}) }

// UnmarshalJSON implements json.Unmarshaler.
func (f *checkedFile) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&f.name, &f.size})
}

// checkedAt is when an object was read, and the size that it had.
type checkedAt struct {
	at   time.Time
	size int64
}

// checked is what was read and found right.
type checked struct {
	mu      sync.Mutex
	objects map[string]checkedAt // before this run, and in it
	fresh   map[string]checkedAt // in this run, and not kept yet
	keys    map[string]bool      // data keys that there were
	read    []string             // the streams that it is from
	own     []string             // those of this run
	kept    time.Time            // when any were kept last
	keeping bool
}

func (c *checked) add(key string, size int64, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fresh[key] = checkedAt{at.UTC().Truncate(time.Second), size}
}

// readChecked reads what earlier runs have taken down. What is damaged of it is a problem, and its objects are read again.
func (v *verifier) readChecked(ctx context.Context) (*checked, error) {
	c := &checked{objects: map[string]checkedAt{}, fresh: map[string]checkedAt{}, keys: map[string]bool{}, kept: v.repo.Now()}
	v.checked = c
	if v.blind {
		return c, nil
	}
	var all []string
	sizes := map[string]int64{}
	for info, err := range v.repo.Store().List(ctx, checkedFolder) {
		if err != nil {
			return nil, err
		}
		all, sizes[info.Key] = append(all, info.Key), info.Size
	}
	var merged string // all up to there are repeated in later ones
	for _, key := range slices.Backward(all) {
		if key <= merged {
			break
		}
		head, err := v.loadChecked(ctx, key, sizes[key])
		if errors.Is(err, fs.ErrNotExist) {
			continue // merged by another run
		}
		if err != nil {
			if err := v.judge(ctx, key, err); err != nil {
				return nil, err
			}
			continue
		}
		if head.Merged != "" {
			merged = max(merged, checkedFolder+string(head.Merged))
		}
	}
	c.read = all
	there := v.dataKeys()
	for key := range c.keys {
		if len(there[key]) == 0 && v.chosen == nil {
			v.find(key, errGone, true)
		}
	}
	return c, nil
}

// load adds what an object says of objects that are there.
func (v *verifier) loadChecked(ctx context.Context, key string, size int64) (head checkedHead, err error) {
	wrong := func(err error) (checkedHead, error) { return head, &repo.CorruptError{Key: key, Err: err} }
	if size < xxhSize {
		return wrong(errors.New("it is too short"))
	}
	body, err := v.repo.Store().Open(ctx, key, 0, -1)
	if err != nil {
		return head, err
	}
	defer body.Close()
	sum := xxh3.New128()
	_, _ = sum.WriteString(key + "\n")
	stored := &heard{r: body}
	said, bad := v.decodeChecked(io.TeeReader(io.LimitReader(stored, size-xxhSize), sum), &head)
	// Whatever has come of that, the sum tells whether it is what was written.
	_, _ = io.Copy(sum, io.LimitReader(stored, size-xxhSize-stored.n))
	last, err := io.ReadAll(io.LimitReader(stored, xxhSize+1))
	if stored.err != nil {
		return head, fmt.Errorf("read %s: %w", key, stored.err)
	}
	if err != nil || !bytes.Equal(last, sum.Sum(nil)) {
		return wrong(errors.New("checksum mismatch"))
	}
	if bad != nil {
		return wrong(bad)
	}
	c := v.checked
	for _, key := range head.DataKeys {
		c.keys[key] = true
	}
	latest := v.report.BeganAt.Add(clockSkew)
	for key, at := range said {
		if at.at.After(latest) {
			continue // by a clock that went wrong: it would be believed until then
		}
		if was, ok := c.objects[key]; !ok || at.at.After(was.at) {
			c.objects[key] = at
		}
	}
	return head, nil
}

// heard counts what it passes on, and remembers the first failure.
type heard struct {
	r   io.Reader
	n   int64
	err error
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) && h.err == nil {
		h.err = err
	}
	return n, err
}

// decodeChecked reads the lines. Of objects that are not there nothing is kept, so that memory is bounded by those that are;
// a run that looks at some backups alone does not know, and keeps what others have said of all.
func (v *verifier) decodeChecked(r io.Reader, head *checkedHead) (map[string]checkedAt, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(z, 64<<10)
	line, err := readLine(in, maxCheckedLine)
	if err == nil {
		err = json.Unmarshal(line, head)
	}
	if err != nil {
		return nil, err
	}
	if head.Version != checkedVersion {
		*head = checkedHead{} // of a later version of pgcairn: what it says is read again
		return nil, nil
	}
	said := map[string]checkedAt{}
	for {
		line, err := readLine(in, maxCheckedLine)
		if errors.Is(err, io.EOF) {
			return said, nil
		}
		if err != nil {
			return nil, err
		}
		var l checkedLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, err
		}
		for _, f := range l.Objects {
			if _, ok := v.objects[l.Folder+f.name]; ok || v.chosen != nil {
				said[l.Folder+f.name] = checkedAt{l.At, f.size}
			}
		}
	}
}

// checkpoint takes down what was read since the last one, now and then. One that fails costs a run that is killed some work.
func (v *verifier) checkpoint(ctx context.Context) {
	c := v.checked
	if v.options.NoReceipt {
		return
	}
	c.mu.Lock()
	due := !c.keeping && v.repo.Now().Sub(c.kept) >= v.options.CheckpointEvery
	c.keeping = c.keeping || due
	c.mu.Unlock()
	if !due {
		return
	}
	v.keepFresh(ctx)
}

// keepFresh takes down what was read since the last time.
func (v *verifier) keepFresh(ctx context.Context) {
	c := v.checked
	c.mu.Lock()
	fresh := c.fresh
	c.fresh = map[string]checkedAt{}
	c.mu.Unlock()
	key, err := v.putChecked(ctx, "", fresh)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keeping, c.kept = false, v.repo.Now()
	if err != nil {
		v.log.WarnContext(ctx, "cannot take down what was verified so far", "error", err)
		for key, at := range fresh {
			c.fresh[key] = at
		}
		return
	}
	c.own = append(c.own, key)
	for key, at := range fresh {
		c.objects[key] = at
	}
}

// lastWords is how long a run that fails may take to tell what it has read.
const lastWords = 10 * time.Second

// keepChecked takes down what was read, in the end: all that is known, if all went well, or if what was found contradicts it,
// since a run that fails is not to leave as right what it has found wrong.
func (v *verifier) keepChecked(ctx context.Context, whole bool) {
	c := v.checked
	if !whole {
		var cancel func()
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
	}
	switch {
	case v.contradicts(), whole && (len(c.fresh) > 0 || len(c.own) > 0 || len(c.read) > 1):
		v.keepAll(ctx)
	case len(c.fresh) > 0:
		v.keepFresh(ctx)
	}
}

// contradicts tells whether something is wrong by now that was right when it was read before.
func (v *verifier) contradicts() bool {
	for key := range v.findings {
		if _, ok := v.checked.objects[key]; ok {
			return true
		}
	}
	return false
}

// keepAll takes down all that is known in one stream, in the place of those before.
func (v *verifier) keepAll(ctx context.Context) {
	c := v.checked
	for key, at := range c.fresh {
		c.objects[key] = at
	}
	for key := range c.objects {
		_, there := v.objects[key]
		if v.findings[key] != nil || !there && v.chosen == nil {
			delete(c.objects, key)
		}
	}
	var merged ID
	if n := len(c.read); n > 0 {
		merged = ID(strings.TrimPrefix(c.read[n-1], checkedFolder))
	}
	if _, err := v.putChecked(ctx, merged, c.objects); err != nil {
		v.log.WarnContext(ctx, "cannot take down what was verified: it will be read again", "error", err)
		v.note("what was read cannot be taken down in the repository, and will be read again: %v", err)
		return
	}
	prune(ctx, v.repo, slices.Concat(c.read, c.own))
}

// putChecked writes a stream.
func (v *verifier) putChecked(ctx context.Context, merged ID, objects map[string]checkedAt) (key string, err error) {
	c := v.checked
	last := merged
	c.mu.Lock()
	for _, key := range slices.Concat(c.read, c.own) {
		last = max(last, ID(strings.TrimPrefix(key, checkedFolder)))
	}
	c.mu.Unlock()
	key = checkedFolder + string(newID(v.repo.Now(), last))
	lines := linesOf(objects)
	w, err := v.repo.Store().Create(ctx, key)
	if err != nil {
		return "", fmt.Errorf("backup: %w", err)
	}
	defer w.Close()
	sum := xxh3.New128()
	_, _ = sum.WriteString(key + "\n")
	z := gzip.NewWriter(io.MultiWriter(w, sum))
	e := json.NewEncoder(z)
	e.SetEscapeHTML(false)
	err = e.Encode(checkedHead{checkedVersion, merged, slices.Sorted(maps.Keys(v.dataKeys()))})
	for _, l := range lines {
		if err == nil {
			err = e.Encode(l)
		}
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		_, err = w.Write(sum.Sum(nil))
	}
	if err == nil {
		_, err = w.Commit()
	}
	if err != nil {
		return "", fmt.Errorf("backup: %w", err)
	}
	return key, nil
}

// linesOf gathers objects in lines.
func linesOf(objects map[string]checkedAt) (lines []*checkedLine) {
	open := map[string]*checkedLine{}
	for _, key := range sortedKeys(objects) {
		at := objects[key]
		i := strings.LastIndexByte(key, '/') + 1
		of := at.at.Format(time.RFC3339) + " " + key[:i]
		l := open[of]
		if l == nil || len(l.Objects) == checkedALine {
			l = &checkedLine{At: at.at, Folder: key[:i]}
			lines, open[of] = append(lines, l), l
		}
		l.Objects = append(l.Objects, checkedFile{key[i:], at.size})
	}
	return lines
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/repo"
)

// ReceiptKind is how a repository was put to the test.
type ReceiptKind string

// The kinds of receipts.
const (
	ReceiptVerify ReceiptKind = "verify" // of Verify
	ReceiptDrill  ReceiptKind = "drill"  // of a recovery that was tried, see package restore/drill
)

// Receipt says that a repository was put to the test, and what came of it. Receipts are kept in the repository itself, and
// not encrypted: hosts that can only write may ask for them as well. So nothing that is of the database belongs in one.
type Receipt struct {
	Kind     ReceiptKind `json:"kind"`
	BeganAt  time.Time   `json:"began_at"`
	EndedAt  time.Time   `json:"ended_at"`
	OK       bool        `json:"ok"`
	Problems int         `json:"problems,omitempty"` // how many were found
	Problem  string      `json:"problem,omitempty"`  // the first of them, in a line

	Whole    bool  `json:"whole,omitempty"`     // of the whole repository
	Backups  []ID  `json:"backups,omitempty"`   // else of these, of which no more than 100 are told; none where it did not come to an end
	ReadData bool  `json:"read_data,omitempty"` // content was read, as far as it was due, and not only looked for
	Objects  int   `json:"objects,omitempty"`   // that there had to be
	Bytes    int64 `json:"bytes,omitempty"`     // that were read
	Left     int   `json:"left,omitempty"`      // objects whose content was due and not read: the sample was full
}

// Covers tells whether a receipt is about all that another one is about, at least as thoroughly: then what the other one
// says has been looked at again since.
func (t *Receipt) Covers(o *Receipt) bool {
	if t.Left > 0 || o.ReadData && !t.ReadData {
		return false
	}
	if t.Whole {
		return true
	}
	if o.Whole || len(o.Backups) == 0 || len(o.Backups) >= receiptBackups { // it may be about more than it tells
		return false
	}
	return !slices.ContainsFunc(o.Backups, func(id ID) bool { return !slices.Contains(t.Backups, id) })
}

const (
	receiptFolder   = "receipts/"
	newReceipts     = 20   // of a kind, that stay whatever they say
	oldReceipts     = 20   // and that stay besides, at most, since they tell what none of the others does
	receiptBackups  = 100  // that a receipt tells
	maxProblemBytes = 1000 // of the problem that it tells
)

func (k ReceiptKind) prefix() string { return receiptFolder + string(k) + "/" }

// WriteReceipt puts a receipt in the repository. Of each kind the 20 newest stay; of those before, up to 18 that found
// something, and the last by which all of the repository is right, and by which its content is, until one covers them. Others are deleted, where that is allowed: where it
// is not, they do no harm.
func WriteReceipt(ctx context.Context, r *repo.Repo, t *Receipt) error {
	if t.Kind != ReceiptVerify && t.Kind != ReceiptDrill {
		return fmt.Errorf("backup: receipt: there is no kind %q", t.Kind)
	}
	kept := *t
	kept.BeganAt, kept.EndedAt = t.BeganAt.UTC().Truncate(time.Second), t.EndedAt.UTC().Truncate(time.Second)
	kept.Problem = shorten(t.Problem, maxProblemBytes)
	kept.Backups = t.Backups[:min(len(t.Backups), receiptBackups)]
	before, err := receiptKeys(ctx, r, t.Kind)
	if err != nil {
		return err
	}
	var last ID
	if n := len(before); n > 0 {
		last = ID(before[n-1][len(t.Kind.prefix()):])
	}
	key := t.Kind.prefix() + string(newID(r.Now(), last))
	err = r.CreateRecord(ctx, key, kept)
	if errors.Is(err, fs.ErrExist) { // of a store that repeats a request whose answer was lost
		var there Receipt
		if read := r.ReadRecord(ctx, key, &there); read == nil && reflect.DeepEqual(there, kept) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("backup: receipt: %w", err)
	}
	pruneReceipts(ctx, r, before[:max(0, len(before)+1-newReceipts)], &kept)
	return nil
}

// pruneReceipts deletes old receipts but for those that tell what the newest does not: the last ones by which all is right,
// and all content, and what was found.
func pruneReceipts(ctx context.Context, r *repo.Repo, keys []string, newest *Receipt) {
	var drop, found []string
	whole := map[bool]string{}                                   // by whether content was read
	for _, key := range keys[max(0, len(keys)-2*oldReceipts):] { // those before are for the next time
		old := &Receipt{}
		switch err := r.ReadRecord(ctx, key, old); {
		case err != nil || newest.Covers(old):
			drop = append(drop, key)
		case !old.OK:
			found = append(found, key)
		case old.Whole && old.Left == 0:
			if last := whole[old.ReadData]; last != "" {
				drop = append(drop, last)
			}
			whole[old.ReadData] = key
		default:
			drop = append(drop, key)
		}
	}
	prune(ctx, r, append(drop, found[:max(0, len(found)-oldReceipts+2)]...))
}

// prune deletes what is not needed any more, as far as that is allowed.
func prune(ctx context.Context, r *repo.Repo, keys []string) {
	for _, key := range keys {
		if r.Store().Delete(ctx, key) != nil {
			return // append-only credentials, mostly: the next is no better
		}
	}
}

// LastReceipt returns the newest receipt of a kind. That there is none is an error matching fs.ErrNotExist. One that is
// corrupt is passed over, and reported in the error as a *[repo.CorruptError]; the one before it is returned all the same.
func LastReceipt(ctx context.Context, r *repo.Repo, kind ReceiptKind) (*Receipt, error) {
	keys, err := receiptKeys(ctx, r, kind)
	if err != nil {
		return nil, err
	}
	all, err := readReceipts(ctx, r, keys, 1)
	switch {
	case len(all) > 0:
		return all[0], err
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("backup: there is no receipt of a %s: %w", kind, fs.ErrNotExist)
}

// Receipts returns the receipts of a kind, the newest first, and no more than 40. Those that are corrupt are passed over, and
// reported in the error as *[repo.CorruptError]; the others are returned all the same. None at all is no error. It takes a
// request for each.
func Receipts(ctx context.Context, r *repo.Repo, kind ReceiptKind) ([]*Receipt, error) {
	keys, err := receiptKeys(ctx, r, kind)
	if err != nil {
		return nil, err
	}
	const all = newReceipts + oldReceipts
	return readReceipts(ctx, r, keys[max(0, len(keys)-all):], all)
}

// readReceipts reads receipts, the last first, until there are enough.
func readReceipts(ctx context.Context, r *repo.Repo, keys []string, enough int) (all []*Receipt, bad error) {
	for _, key := range slices.Backward(keys) {
		if len(all) == enough {
			break
		}
		t := new(Receipt)
		err := r.ReadRecord(ctx, key, t)
		var corrupt *repo.CorruptError
		switch {
		case err == nil:
			all = append(all, t)
		case errors.As(err, &corrupt):
			bad = errors.Join(bad, fmt.Errorf("backup: receipt: %w", err))
		case !errors.Is(err, fs.ErrNotExist): // else it was deleted since it was listed
			return nil, fmt.Errorf("backup: receipt: %w", err)
		}
	}
	return all, bad
}

// receiptKeys lists the receipts of a kind, oldest first.
func receiptKeys(ctx context.Context, r *repo.Repo, kind ReceiptKind) ([]string, error) {
	var keys []string
	for info, err := range r.Store().List(ctx, kind.prefix()) {
		if err != nil {
			return nil, fmt.Errorf("backup: list receipts: %w", err)
		}
		if _, err := ParseID(info.Key[len(kind.prefix()):]); err == nil {
			keys = append(keys, info.Key)
		}
	}
	return keys, nil
}

// shorten cuts a text to n bytes at most.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 { // in the middle of a character
		n--
	}
	return s[:n]
}

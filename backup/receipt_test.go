package backup_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

func TestReceipts(t *testing.T) {
	r := newRepo(t, nil, nil)
	for _, kind := range []backup.ReceiptKind{backup.ReceiptVerify, backup.ReceiptDrill} {
		_, err := backup.LastReceipt(t.Context(), r, kind)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	at := time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)
	want := backup.Receipt{
		Kind: backup.ReceiptVerify, BeganAt: at, EndedAt: at.Add(time.Hour), Problems: 2, Problem: "it is missing",
		Backups: []backup.ID{"20261121T101530Z-9f3c2a"}, ReadData: true, Objects: 3, Bytes: 4, Left: 5,
	}
	require.NoError(t, backup.WriteReceipt(t.Context(), r, &want))
	got, err := backup.LastReceipt(t.Context(), r, backup.ReceiptVerify)
	require.NoError(t, err)
	require.Equal(t, want, *got)
	_, err = backup.LastReceipt(t.Context(), r, backup.ReceiptDrill)
	require.ErrorIs(t, err, fs.ErrNotExist, "kinds are apart")

	want.Kind, want.Backups, want.Whole, want.OK = backup.ReceiptDrill, nil, true, true
	require.NoError(t, backup.WriteReceipt(t.Context(), r, &want))
	got, err = backup.LastReceipt(t.Context(), r, backup.ReceiptDrill)
	require.NoError(t, err)
	require.Equal(t, want, *got)

	require.Error(t, backup.WriteReceipt(t.Context(), r, &backup.Receipt{Kind: "prayer"}))
}

// A receipt is a record, of at most 64 KiB, whatever it is about.
func TestReceiptsAreSmall(t *testing.T) {
	r := newRepo(t, nil, nil)
	big := backup.Receipt{Kind: backup.ReceiptVerify, Problem: strings.Repeat("ü", 100_000), Backups: make([]backup.ID, 10_000)}
	require.NoError(t, backup.WriteReceipt(t.Context(), r, &big))
	got, err := backup.LastReceipt(t.Context(), r, backup.ReceiptVerify)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("ü", 500), got.Problem)
	require.Len(t, got.Backups, 100)
}

// The picture of a receipt in repo/FORMAT.md is what is written, and read.
func TestGoldenReceipt(t *testing.T) {
	const key = "receipts/verify/20261121T111530Z-9f3c2a"
	at := time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)
	want := backup.Receipt{
		Kind: backup.ReceiptVerify, BeganAt: at, EndedAt: at.Add(time.Hour), Problems: 1, Problem: "packs/20260101T000002Z-baad02/00000001: it is missing",
		Whole: true, ReadData: true, Objects: 4711, Bytes: 48318382080,
	}
	have := goldenRecord(t, key, want)
	var got backup.Receipt
	require.NoError(t, repo.OpenRecord(key, have, &got))
	require.Equal(t, want, got)
}

// goldenRecord compares a record with what the golden file of its key has.
func goldenRecord(t *testing.T, key string, want any) []byte {
	t.Helper()
	b, err := repo.SealRecord(key, want)
	require.NoError(t, err)
	golden := filepath.Join("testdata", "golden-receipts", key)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
		require.NoError(t, os.WriteFile(golden, b, 0o644))
	}
	have, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(have), string(b))
	return have
}

// Old receipts go where they can, and the newest one counts, also among those of the same second and with a damaged one.
func TestReceiptsArePruned(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)
	for name, fault := range map[string]repotest.Fault{
		"allowed":     {Op: repotest.OpDelete, Nth: 1 << 30},
		"not allowed": {Op: repotest.OpDelete, Do: repotest.Fail(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			mem := repotest.Mem(nil)
			s := repotest.Faulty(mem, fault)
			r, err := repo.Init(t.Context(), s, &repo.Options{Now: func() time.Time { return at }})
			require.NoError(t, err)
			for i := range 30 {
				require.NoError(t, backup.WriteReceipt(t.Context(), r, &backup.Receipt{Kind: backup.ReceiptDrill, OK: true, Objects: i + 1}))
				got, err := backup.LastReceipt(t.Context(), r, backup.ReceiptDrill)
				require.NoError(t, err)
				require.Equal(t, i+1, got.Objects)
			}
			there := keys(t, mem, "receipts/drill/")
			if name == "allowed" {
				require.Len(t, there, 20)
			} else {
				require.Len(t, there, 30)
			}
			flipBit(t, mem, there[len(there)-1], 20)
			got, err := backup.LastReceipt(t.Context(), r, backup.ReceiptDrill)
			var corrupt *repo.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.Equal(t, there[len(there)-1], corrupt.Key)
			require.Equal(t, 29, got.Objects)
		})
	}
}

// What a verification has found, and that all was verified, is known until another one covers it, however many others follow.
func TestReceiptsThatTell(t *testing.T) {
	const some = backup.ID("20261121T101530Z-9f3c2a")
	r := newRepo(t, nil, nil)
	left := 0
	write := func(n int, ok, whole bool) {
		for range n {
			receipt := &backup.Receipt{Kind: backup.ReceiptVerify, OK: ok, Whole: whole, ReadData: true, Left: left}
			if !whole {
				receipt.Backups = []backup.ID{some}
			}
			require.NoError(t, backup.WriteReceipt(t.Context(), r, receipt))
		}
	}
	told := func() (failed, whole int) {
		all, err := backup.Receipts(t.Context(), r, backup.ReceiptVerify)
		require.NoError(t, err)
		for _, receipt := range all {
			if !receipt.OK {
				failed++
			}
			if receipt.Whole {
				whole++
			}
		}
		return failed, whole
	}
	write(1, false, true)
	write(60, true, false)
	failed, whole := told()
	require.Equal(t, []int{1, 1}, []int{failed, whole})
	require.Len(t, keys(t, r.Store(), "receipts/verify/"), 21)
	left = 1 // what reads a sample covers nothing
	write(60, true, true)
	failed, _ = told()
	require.Equal(t, 1, failed)
	left = 0
	write(60, true, false)
	require.Len(t, keys(t, r.Store(), "receipts/verify/"), 21)
	write(1, true, true)
	write(60, true, false)
	failed, whole = told()
	require.Equal(t, []int{0, 1}, []int{failed, whole})
	write(21, true, true)
	failed, whole = told()
	require.Equal(t, []int{0, 20}, []int{failed, whole})
	write(100, false, true)
	require.Len(t, keys(t, r.Store(), "receipts/verify/"), 20)
	write(100, false, false)
	require.LessOrEqual(t, len(keys(t, r.Store(), "receipts/verify/")), 40, "no more, whatever they say")
}

// That all content was read is known however many look at names alone since.
func TestReceiptOfContent(t *testing.T) {
	r := newRepo(t, nil, nil)
	for i := range 60 {
		receipt := &backup.Receipt{Kind: backup.ReceiptVerify, OK: true, Whole: true, ReadData: i == 1}
		require.NoError(t, backup.WriteReceipt(t.Context(), r, receipt))
	}
	all, err := backup.Receipts(t.Context(), r, backup.ReceiptVerify)
	require.NoError(t, err)
	require.Len(t, all, 21)
	require.True(t, all[20].ReadData)
	require.NoError(t, backup.WriteReceipt(t.Context(), r, &backup.Receipt{Kind: backup.ReceiptVerify, OK: true, Whole: true, ReadData: true}))
	require.Len(t, keys(t, r.Store(), "receipts/verify/"), 20)
}

// Whatever call fails, a receipt is there when it is said to be, and "there is none" is never an outage.
func TestReceiptFaults(t *testing.T) {
	for _, do := range []repotest.Effect{repotest.Fail(nil), repotest.FailAfter(nil)} {
		for n := 1; ; n++ {
			mem := repotest.Mem(nil)
			newRepo(t, mem, nil)
			s := repotest.Faulty(mem, repotest.Fault{Nth: n, Do: do})
			r, err := repo.Open(t.Context(), s, &repo.Options{Now: clock()})
			if err == nil {
				err = backup.WriteReceipt(t.Context(), r, &backup.Receipt{Kind: backup.ReceiptVerify, OK: true})
			}
			if err == nil {
				got, rerr := backup.LastReceipt(t.Context(), r, backup.ReceiptVerify)
				if err = rerr; err == nil {
					require.True(t, got.OK)
				}
			}
			if s.Struck() == 0 {
				require.NoError(t, err)
				require.Greater(t, n, 5)
				break
			}
			if err != nil { // else the call had its answer all the same
				requireNoAnswer(t, err)
			}
		}
	}
}

// flipBit flips a bit of a stored object.
func flipBit(t *testing.T, s repo.Store, key string, at int) {
	t.Helper()
	b := storedBytes(t, s, key)
	b[at] ^= 1
	replace(t, s, key, b)
}

// replace puts other bytes in the place of an object.
func replace(t *testing.T, s repo.Store, key string, b []byte) {
	t.Helper()
	require.NoError(t, s.Delete(t.Context(), key))
	w, err := s.Create(context.WithoutCancel(t.Context()), key)
	require.NoError(t, err)
	defer w.Close()
	_, err = w.Write(b)
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
}

// storedBytes returns an object as it is stored.
func storedBytes(t *testing.T, s repo.Store, key string) []byte {
	t.Helper()
	body, err := s.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	defer body.Close()
	b, err := io.ReadAll(body)
	require.NoError(t, err)
	return b
}

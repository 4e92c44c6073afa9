package repo_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

type note struct {
	Text  string `json:"text"`
	Count int    `json:"count"`
}

func TestRecordRoundTrip(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		for name, want := range map[string]note{
			"plain":   {Text: "a cairn", Count: 3},
			"zero":    {},
			"tricky":  {Text: `","sum":"00"}` + "\n</>&\u2028"},
			"at most": {Text: strings.Repeat("a", 65_000)},
		} {
			require.NoError(t, g.w.CreateRecord(t.Context(), "notes/"+name, want))
			for _, r := range []*repo.Repo{g.w, g.r} { // both know records
				var got note
				require.NoError(t, r.ReadRecord(t.Context(), "notes/"+name, &got))
				assert.Equal(t, want, got)
			}
			b := storedBytes(t, g.store, "notes/"+name)
			assert.True(t, json.Valid(b))
			assert.Equal(t, 1, bytes.Count(b, []byte("\n")), "one line")
		}
	})
}

func TestRecordRefusals(t *testing.T) {
	g := newRig(t, false)
	for name, v := range map[string]any{
		"no members": struct{}{},
		"a list":     []int{1},
		"nothing":    nil,
		"a pointer":  (*note)(nil),
		"a channel":  struct{ C chan int }{},
		"too large":  note{Text: strings.Repeat("a", 64<<10)},
	} {
		require.Error(t, g.w.CreateRecord(t.Context(), "notes/refused", v), name)
	}
	assert.Empty(t, storedKeys(t, g.store, "notes/"))
	var keyErr *repo.KeyError
	require.ErrorAs(t, g.w.CreateRecord(t.Context(), "../escape", note{}), &keyErr)
}

func TestRecordExistence(t *testing.T) {
	g := newRig(t, false)
	var got note
	err := g.w.ReadRecord(t.Context(), "notes/first", &got)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, g.w.CreateRecord(t.Context(), "notes/first", note{Count: 1}))
	err = g.w.CreateRecord(t.Context(), "notes/first", note{Count: 2})
	require.ErrorIs(t, err, fs.ErrExist)
	require.NoError(t, g.w.ReadRecord(t.Context(), "notes/first", &got))
	assert.Equal(t, 1, got.Count)
}

func TestRecordIsOfItsKey(t *testing.T) {
	g := newRig(t, false)
	require.NoError(t, g.w.CreateRecord(t.Context(), "notes/first", note{Count: 1}))
	storeBytes(t, g.store, "notes/second", storedBytes(t, g.store, "notes/first"))
	var got note
	requireCorrupt(t, g.r.ReadRecord(t.Context(), "notes/second", &got), "notes/second")
	assert.Zero(t, got)
}

func TestOpenRecordMalformed(t *testing.T) {
	sealed, err := repo.SealRecord("key", note{Text: "a"})
	require.NoError(t, err)
	for name, b := range map[string][]byte{
		"empty":         nil,
		"no sum":        []byte(`{"text":"a","count":0}` + "\n"),
		"no newline":    bytes.TrimSpace(sealed),
		"two newlines":  append(bytes.Clone(sealed), '\n'),
		"doubled":       append(bytes.Clone(sealed), sealed...),
		"another order": []byte(`{"sum":"` + strings.Repeat("0", 32) + `","text":"a"}` + "\n"),
	} {
		var got note
		requireCorrupt(t, repo.OpenRecord("key", b, &got), "key")
		assert.Zero(t, got, name)
	}
	var list []int
	requireCorrupt(t, repo.OpenRecord("key", sealed, &list), "key")
}

func FuzzOpenRecord(f *testing.F) {
	sealed, err := repo.SealRecord("key", note{Text: "a cairn", Count: 3})
	require.NoError(f, err)
	f.Add(sealed)
	f.Add([]byte(`{"text":"a","sum":"00"}` + "\n"))
	f.Add([]byte(`,"sum":"` + strings.Repeat("0", 32) + "\"}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got note
		if repo.OpenRecord("key", b, &got) != nil {
			return
		}
		again, err := repo.SealRecord("key", got)
		require.NoError(t, err)
		require.Equal(t, string(again), string(b), "only what was sealed opens")
	})
}

func FuzzMarker(f *testing.F) {
	g := newRig(f, false)
	f.Add(storedBytes(f, g.store, "pgcairn.json"))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &replaced{Store: repotest.Mem(nil), key: "pgcairn.json", data: b}
		if r, err := repo.Open(t.Context(), s, nil); err == nil {
			require.NotEmpty(t, r.ID())
			require.False(t, r.Encrypted())
		}
	})
}

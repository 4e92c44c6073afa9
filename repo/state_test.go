package repo_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestRepoStateDir(t *testing.T) {
	store := repotest.Mem(nil)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	require.Empty(t, r.StateDir())
	dir := t.TempDir()
	r, err = repo.Open(t.Context(), store, &repo.Options{StateDir: dir})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, r.ID()), r.StateDir())
	require.NoDirExists(t, r.StateDir(), "it is made by who needs it")
}

// TestMarkerWhoseIDLeadsOut: whoever can write to the store could otherwise choose where this host keeps its state.
func TestMarkerWhoseIDLeadsOut(t *testing.T) {
	for _, id := range []string{"", ".", "..", "../../x", "a/b", `a\b`, "/etc", strings.Repeat("x", 200)} {
		store := repotest.Mem(nil)
		text, err := json.Marshal(id)
		require.NoError(t, err)
		marker := json.RawMessage(`{"format":1,"id":` + string(text) + `,"encryption":"none","created_at":"2026-11-21T00:00:00Z"}`)
		record, err := repo.SealRecord("pgcairn.json", marker)
		require.NoError(t, err)
		storeBytes(t, store, "pgcairn.json", record)
		_, err = repo.Open(t.Context(), store, &repo.Options{StateDir: t.TempDir()})
		var corrupt *repo.CorruptError
		require.ErrorAs(t, err, &corrupt, "%q", id)
	}
}

package repotest_test

import (
	"context"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestMem(t *testing.T) {
	repotest.TestStore(t, func(*testing.T) repo.Store { return repotest.Mem(nil) })
}

func write(s repo.Store, key, data string) error {
	w, err := s.Create(context.Background(), key)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write([]byte(data)); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

func TestMemTimes(t *testing.T) {
	times := func(s repo.Store) (got []string) {
		for _, key := range []string{"b", "a", "c"} {
			require.NoError(t, write(s, key, ""))
		}
		require.ErrorIs(t, write(s, "a", ""), fs.ErrExist)
		for info, err := range s.List(t.Context(), "") {
			require.NoError(t, err)
			got = append(got, info.Key+" "+info.ModTime.Format(time.RFC3339))
		}
		return got
	}
	for range 2 {
		assert.Equal(t, []string{"a 2000-01-01T00:00:01Z", "b 2000-01-01T00:00:00Z", "c 2000-01-01T00:00:02Z"}, times(repotest.Mem(nil)))
	}
	at := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	s := repotest.Mem(&repotest.MemOptions{Now: func() time.Time { return at }})
	assert.Equal(t, []string{"a 2024-02-29T12:00:00Z", "b 2024-02-29T12:00:00Z", "c 2024-02-29T12:00:00Z"}, times(s))
}

func TestMemKeyIsNotAlsoAFolder(t *testing.T) {
	s := repotest.Mem(nil)
	require.NoError(t, write(s, "object", ""))
	require.NoError(t, write(s, "folder/object", ""))
	require.NoError(t, write(s, "folder-object", ""), "sorts between")
	for _, key := range []string{"object/under", "object/far/under", "folder"} {
		var keyErr *repo.KeyError
		require.ErrorAs(t, write(s, key, ""), &keyErr)
	}
}

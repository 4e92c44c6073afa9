package main

import (
	"fmt"
	"testing"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

func TestRequestsAreCountedAsTheyAreBilled(t *testing.T) {
	var count requestCounter
	s := repo.Observe(repotest.Mem(nil), count.add)
	create := func(key string) repo.Writer {
		w, err := s.Create(t.Context(), key)
		require.NoError(t, err)
		return w
	}
	list := func(prefix string) {
		for _, err := range s.List(t.Context(), prefix) {
			require.NoError(t, err)
		}
	}
	for i := range 2001 {
		w := create(fmt.Sprintf("many/%04d", i))
		_, err := w.Commit()
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	require.Equal(t, requests{Put: 2001}, count.requests())

	require.NoError(t, create("given up").Close())
	_, err := create("many/0000").Commit()
	require.Error(t, err)
	require.Equal(t, requests{Put: 2002}, count.requests(), "the one was never sent, the other refused")

	list("many/")
	require.EqualValues(t, 3, count.requests().List)
	list("many/1")
	require.EqualValues(t, 4, count.requests().List)
	list("none")
	require.EqualValues(t, 5, count.requests().List)

	body, err := s.Open(t.Context(), "many/0001", 0, -1)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	_, err = s.Stat(t.Context(), "many/0001")
	require.NoError(t, err)
	_, err = s.Stat(t.Context(), "none")
	require.Error(t, err)
	require.NoError(t, s.Delete(t.Context(), "many/0001"))
	require.Equal(t, requests{Put: 2002, Get: 3, List: 5, Delete: 1}, count.requests())
}

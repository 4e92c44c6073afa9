package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// Who backs up a cluster with damaged pages is told which relations they are of, and so is who looks at the backup later:
// every page of a few, the first of very many.
func TestDamage(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	c.Exec(t, `create table precious (i int primary key, pad text)`,
		`insert into precious select i, repeat('x', 2000) from generate_series(1, 6000) i`)
	path := func(relation string) string {
		return pgtest.Value[string](t, c, `select pg_relation_filepath($1::text::regclass)`, relation)
	}
	table, index := path("precious"), path("precious_pkey")
	damage := func(relation string, blocks ...int) {
		t.Helper()
		c.Stop(t)
		f, err := os.OpenFile(filepath.Join(c.Data, relation), os.O_RDWR, 0)
		require.NoError(t, err)
		defer f.Close()
		for _, n := range blocks {
			_, err := f.WriteAt([]byte("not what the checksum says"), int64(n)*8192+5000)
			require.NoError(t, err)
		}
		c.Start(t)
	}
	damage(table, 3, 17)
	damage(index, 2)
	server := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres", "PGCAIRN_LOG_LEVEL=error")

	b := server.json(t, "backup", "--pgdata", c.Data)
	require.EqualValues(t, 3, b["bad_pages"])
	page := func(path string, block int, relation, kind string) map[string]any {
		return map[string]any{"path": path, "block": float64(block), "database": "postgres", "schema": "public", "relation": relation, "kind": kind}
	}
	onIndex := page(index, 2, "precious_pkey", "i")
	onIndex["table"] = "public.precious"
	want := []any{page(table, 3, "precious", "r"), page(table, 17, "precious", "r"), onIndex}
	slices.SortStableFunc(want, func(a, b any) int {
		return strings.Compare(a.(map[string]any)["path"].(string), b.(map[string]any)["path"].(string))
	})
	require.Equal(t, want, b["bad_page_list"])
	reader := h.reader()
	shown := reader.json(t, "show", b["id"].(string))
	require.Equal(t, want, shown["bad_page_list"])
	for _, text := range []string{reader.ok(t, "show", b["id"].(string)), server.ok(t, "backup", "--pgdata", c.Data)} {
		require.Contains(t, text, "3 pages of the cluster do not match their checksum")
		require.Contains(t, text, fmt.Sprintf("block 17 of table public.precious in postgres (%s)", table))
		require.Contains(t, text, fmt.Sprintf("block 2 of index public.precious_pkey of public.precious in postgres (%s)", index))
	}

	var all []int
	for n := range 1200 {
		all = append(all, n)
	}
	damage(table, all...)
	b = server.json(t, "backup", "--pgdata", c.Data)
	require.EqualValues(t, 1201, b["bad_pages"])
	require.Len(t, b["bad_page_list"], badPagesInJSON)
	require.Contains(t, reader.ok(t, "show", b["id"].(string)), fmt.Sprintf("and %d more", 1201-badPagesInText))
}

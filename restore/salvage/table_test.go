package salvage_test

import (
	"testing"

	"github.com/pgcairn/pgcairn/restore/salvage"
	"github.com/stretchr/testify/require"
)

func TestParseTable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]salvage.Table{
		`public.orders`:         {Schema: "public", Name: "orders"},
		`Public.Orders of 2026`: {Schema: "Public", Name: "Orders of 2026"},
		`"a.b"."c""d"`:          {Schema: "a.b", Name: `c"d`},
		`public."x"`:            {Schema: "public", Name: "x"},
		`"".x`:                  {}, `public.`: {}, `.x`: {}, `orders`: {}, `a.b.c`: {}, `"a.b`: {}, `a."b"c`: {}, `a"b.c`: {}, ``: {}, `a."b`: {}, `"`: {},
	} {
		got, err := salvage.ParseTable(text)
		require.Equal(t, want, got, text)
		if want == (salvage.Table{}) {
			require.ErrorContains(t, err, "is no SCHEMA.TABLE", text)
			continue
		}
		require.NoError(t, err, text)
		again, err := salvage.ParseTable(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
}

func TestNear(t *testing.T) {
	t.Parallel()
	all := []salvage.Table{
		{Schema: "archive", Name: "orders"},
		{Schema: "public", Name: "Orders"},
		{Schema: "public", Name: "order_items"},
		{Schema: "public", Name: "ordes"},
		{Schema: "public", Name: "customers"},
		{Schema: "public", Name: "x"},
	}
	require.Equal(t, []salvage.Table{all[1], all[0], all[3]}, salvage.Near(salvage.Table{Schema: "public", Name: "orders"}, all))
	require.Empty(t, salvage.Near(salvage.Table{Schema: "public", Name: "nothing like it"}, all))
	require.Len(t, salvage.Near(salvage.Table{Name: "t"}, make([]salvage.Table, 9)), 5)
}

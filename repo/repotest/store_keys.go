package repotest

import (
	"io/fs"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// testOddKeys has keys that some layer between the store and its medium might escape, fold or cut. They lie in folders
// of their own, since services that escape them list them in the order of what they escape them to.
func testOddKeys(t *testing.T, s repo.Store, dir string) {
	for i, odd := range []string{
		"a b", " a", "a ", "a  b", "100%", "%41", "%2F", "%2e%2e", "a+b", "a?b=c&d", "#a", "a:b", "a;b", "a,b", "a@b", "'a'",
		`"a"`, "(a)", "[a]", "{a}", "a*", "a|b", "<a>", "^a`", "$a", "~a", "!a", "=a", "-a", "--", "_", "..a", "a..",
		"...", ".a", "a.", "CON", "null", "ünïcödé", "日本語", "🪨", "Ω≈ç", strings.Repeat("x", 200), strings.Repeat("long/", 150) + "x",
	} {
		t.Run(odd[:min(len(odd), 20)], func(t *testing.T) {
			folder := dir + strconv.Itoa(i) + "/"
			for _, key := range []string{folder + odd, folder + "in/" + odd + "/out"} {
				put(t, s, key, []byte(key))
				requireContent(t, s, key, []byte(key))
				assert.Equal(t, []string{key}, list(t, s, key))
				_, err := write(t.Context(), s, key, nil)
				require.ErrorIs(t, err, fs.ErrExist)
				require.NoError(t, s.Delete(t.Context(), key))
				requireMissing(t, s, key)
			}
		})
	}
}

func testBadKeys(t *testing.T, s repo.Store, dir string) {
	for _, bad := range []string{
		"", "/", "/" + dir + "a", dir, dir + "a/", dir + "/a", "//", ".", "..", "./" + dir + "a", "../a", dir + ".", dir + "..",
		dir + "../a", dir + "./a", dir + "a/../../../../../../etc/passwd", dir + "a/..", dir + `a\b`, `..\a`, dir + "a\x00", "\x00",
		dir + "a\nb", dir + "a\tb", dir + "a\x7fb", dir + "\u0085", dir + "\u200b", dir + "\ufeff", dir + "a\xffb",
		dir + ".pgcairn-tmp-x", dir + ".pgcairn-tmp-", ".pgcairn-tmp-x/a", strings.Repeat("a/", 512) + "a",
	} {
		t.Run(strconv.Quote(bad[:min(len(bad), 40)]), func(t *testing.T) {
			var keyErr *repo.KeyError
			_, err := write(t.Context(), s, bad, nil)
			require.ErrorAs(t, err, &keyErr)
			_, err = s.Open(t.Context(), bad, 0, -1)
			require.ErrorAs(t, err, &keyErr)
			require.NotErrorIs(t, err, fs.ErrNotExist)
			_, err = s.Stat(t.Context(), bad)
			require.ErrorAs(t, err, &keyErr)
			require.NotErrorIs(t, err, fs.ErrNotExist)
			require.ErrorAs(t, s.Delete(t.Context(), bad), &keyErr)
		})
	}
	assert.Empty(t, list(t, s, dir))
}

func testBadPrefixes(t *testing.T, s repo.Store, dir string) {
	for _, bad := range []string{"/", "//", "/a", "../", "./", dir + "../", dir + "/", dir + "a/./", dir + `a\b`, dir + "a\x00", dir + "\xff"} {
		n := 0
		for _, err := range s.List(t.Context(), bad) {
			n++
			var keyErr *repo.KeyError
			require.ErrorAs(t, err, &keyErr)
		}
		assert.Equal(t, 1, n, "prefix %q", bad)
	}
}

package repo_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

func TestCheckKey(t *testing.T) {
	tests := []struct {
		key    string
		prefix bool   // whether it is a valid prefix
		reason string // empty for a valid key
	}{
		{"a", true, ""},
		{"a/b c/%+é/日本", true, ""},
		{"...", true, ""},
		{"a/..b", true, ""},
		{strings.Repeat("a", 1024), true, ""},
		{"", true, "empty element"},
		{"a/", true, "empty element"},
		{"..", true, `element ".."`},
		{"a/.", true, `element "."`},
		{"a/.pgcairn-tmp-", true, "unfinished"},
		{"/", false, "empty element"},
		{"/a", false, "empty element"},
		{"a//b", false, "empty element"},
		{"../a", false, `element ".."`},
		{"a/./b", false, `element "."`},
		{".pgcairn-tmp-1/a", false, "unfinished"},
		{`a\b`, false, `character '\\'`},
		{"a\x00", false, `character '\x00'`},
		{"a\u00a0", false, `character '\u00a0'`},
		{"a\xff", false, "UTF-8"},
		{strings.Repeat("a", 1025), false, "1025 bytes"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.20q", tt.key), func(t *testing.T) {
			err := repo.CheckKey(tt.key)
			if tt.reason == "" {
				require.NoError(t, err)
			} else {
				var keyErr *repo.KeyError
				require.ErrorAs(t, err, &keyErr)
				require.ErrorIs(t, err, fs.ErrInvalid)
				assert.Equal(t, tt.key, keyErr.Key)
				assert.Contains(t, keyErr.Reason, tt.reason)
			}
			assert.Equal(t, tt.prefix, repo.CheckPrefix(tt.key) == nil)
		})
	}
}

// Every beginning of a key is a prefix to list by.
func FuzzCheckKey(f *testing.F) {
	for _, seed := range []string{"a/b", "a-b/é", "..", "a//b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if repo.CheckKey(key) != nil {
			return
		}
		if repo.CheckPrefix(key) != nil || !fs.ValidPath(key) {
			t.Errorf("%q is a key", key)
		}
		for i := range key {
			if err := repo.CheckPrefix(key[:i]); err != nil {
				t.Error(err)
			}
		}
	})
}

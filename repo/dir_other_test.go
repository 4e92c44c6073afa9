//go:build !linux

package repo_test

import "testing"

func readOnly(t *testing.T, dir string) {
	t.Helper()
	readOnlyMode(t, dir)
}

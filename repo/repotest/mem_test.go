package repotest_test

import (
	"testing"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestMem(t *testing.T) {
	repotest.TestStore(t, func(*testing.T) repo.Store { return repotest.Mem(nil) })
}

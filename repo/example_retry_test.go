package repo_test

import (
	"context"
	"fmt"
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// A store that fails now and then is asked again. What hangs below sees each attempt.
func ExampleRetry() {
	ctx := context.Background()
	flaky := repotest.Faulty(repotest.Mem(nil), repotest.Fault{Op: repotest.OpCommit, Nth: 1})
	attempts := 0
	s := repo.Retry(repo.Observe(flaky, func(repo.Op) { attempts++ }), &repo.RetryOptions{Time: time.Minute})
	w, err := s.Create(ctx, "notes/first")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()
	info, err := w.Commit()
	fmt.Println(info.Key, err, attempts)
	// Output: notes/first <nil> 2
}

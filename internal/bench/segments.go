package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// fill has the server write segments full of the changes of real statements.
func (b *bench) fill(ctx context.Context) error {
	want := max(b.segments+1, b.backlog)
	if err := os.RemoveAll(b.path("restored")); err != nil {
		return err
	}
	before, err := b.query(ctx, "select pg_walfile_name(pg_switch_wal())")
	if err != nil {
		return err
	}
	// As often as there are customers, and then again.
	fill := fmt.Sprintf(`do $$ declare s pg_lsn := pg_current_wal_lsn(); i int := 0; begin
		while pg_current_wal_lsn() - s < %d loop
			update orders set status = 'again', total = total + 1 where customer between 1 + i * 100 and 100 + i * 100;
			i := (i + 1) %% %d;
		end loop; end $$`, int64(want)*16<<20, max(1, b.rows/400))
	if _, err := b.do(ctx, "psql", "-XAtq", "-c", fill, "-c", "select pg_switch_wal()"); err != nil {
		return err
	}
	files, err := filepath.Glob(b.path("data", "pg_wal", "0*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if name := filepath.Base(f); len(name) == 24 && name > before && len(b.names) < want {
			b.names = append(b.names, name)
		}
	}
	if len(b.names) < want {
		return fmt.Errorf("only %d segments written", len(b.names))
	}
	return nil
}

// each is a shell command that runs another for the segments of the backlog, one after the other, as PostgreSQL does.
func (b *bench) each(commands ...string) []string {
	return []string{"sh", "-ec", "for f in " + strings.Join(b.names[:b.backlog], " ") + "; do " + strings.Join(commands, "; ") + "; done"}
}

// shell runs a script.
func (b *bench) shell(ctx context.Context, script string, args ...any) error {
	_, err := b.do(ctx, "sh", "-ec", fmt.Sprintf(script, args...))
	return err
}

// requireSame compares a directory's segments with the server's.
func (b *bench) requireSame(ctx context.Context, dir string) error {
	command := b.each(fmt.Sprintf("cmp %s %s", b.path("data", "pg_wal", "$f"), filepath.Join(dir, "$f")))
	_, err := b.do(ctx, command[0], command[1:]...)
	return err
}

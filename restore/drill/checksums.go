package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/restore"
)

const pgChecksums = "pg_checksums"

// checksums shuts the server down in order and has pg_checksums read all pages.
func (s *server) checksums(ctx context.Context) CheckResult {
	r := CheckResult{Name: "checksums", OK: true}
	if err := s.shutDown(ctx); err != nil {
		r.problem("%v", err)
		return r
	}
	control, _, err := pgfile.ReadControl(s.scratch.path(dataName))
	if err != nil {
		r.problem("%v", err)
		return r
	}
	if control.ChecksumVersion == 0 {
		r.Skipped = "the cluster has no data checksums"
		return r
	}
	out, err := s.run(ctx, pgChecksums, "--check", "--pgdata", s.scratch.path(dataName))
	if err == nil {
		return r
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "pg_checksums: error:") {
			r.problem("%s", strings.TrimPrefix(line, "pg_checksums: error: "))
		}
	}
	if r.OK {
		r.problem("%s: %v: %s", pgChecksums, err, bytes.TrimSpace(out))
	}
	return r
}

// shutDown ends the server in order, if it runs.
func (s *server) shutDown(ctx context.Context) error {
	if s.process == nil || s.action == restore.Shutdown && s.process.ended() {
		return nil
	}
	if s.process.ended() {
		return s.died()
	}
	if err := s.process.shutDown(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("it did not shut down in order: %w", errors.Join(err, s.died()))
	}
	return nil
}

// died says why the server has ended.
func (s *server) died() error {
	log, err := readLog(s.scratch.path(logName))
	if err != nil {
		return err
	}
	return &ServerError{Err: s.process.err, Log: log.tail}
}

// run runs one of PostgreSQL's programs to its end, and returns what it printed.
func (s *server) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	given := s.command(name, args...)
	cmd := exec.CommandContext(ctx, given.Path, args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = given.Dir, given.Env, given.SysProcAttr
	return cmd.CombinedOutput()
}

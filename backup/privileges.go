package backup

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// PrivilegeError means that the role connected as may not do what a backup has to.
type PrivilegeError struct {
	Role      string
	Functions []string // that it may not execute, with their argument types
}

func (e *PrivilegeError) Error() string {
	return fmt.Sprintf("backup: role %q may not execute %s: it takes %s", e.Role, strings.Join(e.Functions, ", "), e.Grant())
}

// Grant is the statement that a superuser has to execute. It counts for the database that it is executed in.
func (e *PrivilegeError) Grant() string {
	return fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s TO %s", strings.Join(e.Functions, ", "), pgx.Identifier{e.Role}.Sanitize())
}

// backupFunctions are the functions that start and stop a backup.
func (s *server) backupFunctions() []string {
	if s.version < 150000 {
		return []string{"pg_start_backup(text, boolean, boolean)", "pg_stop_backup(boolean, boolean)"}
	}
	return []string{"pg_backup_start(text, boolean)", "pg_backup_stop(boolean)"}
}

// fileFunctions are the functions that list and read files. Without pg_read_server_files they reach what is below the
// data directory, by way of its links as well (convert_and_check_filename of PostgreSQL's genfile.c), and no more.
func (s *server) fileFunctions() []string {
	return []string{
		"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)",
		"pg_read_binary_file(text, bigint, bigint, boolean)", //nolint:dupword // two arguments
	}
}

// mayExecute returns the role connected as, or a *PrivilegeError.
func (s *server) mayExecute(ctx context.Context, functions ...string) (role string, err error) {
	const query = `select current_user::text, array(select f from unnest($1::text[]) with ordinality u(f, n)
		where not has_function_privilege(f, 'execute') order by n)`
	var denied []string
	if err := s.conn.QueryRow(ctx, query, functions).Scan(&role, &denied); err != nil {
		return "", fmt.Errorf("backup: ask the server: %w", err)
	}
	if len(denied) > 0 {
		return "", &PrivilegeError{Role: role, Functions: denied}
	}
	return role, nil
}

package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/restore"
)

// port names the socket. Nobody listens on it otherwise.
const port = 5432

// server is the private server of a drill.
type server struct {
	scratch *scratch
	account *account
	bin     string // directory of the programs
	major   int
	options *Options
	action  restore.Action

	database string   // to connect to by default; empty is any that every cluster has
	process  *process // nil while it does not run
}

// start starts the server on the restored directory.
func (s *server) start() error {
	control, _, err := pgfile.ReadControl(s.scratch.path(dataName))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.scratch.path(logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has its own
	cmd := s.command("postgres", s.arguments(control.Resources)...)
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr != nil {
		endWithParent(cmd.SysProcAttr)
	}
	s.process, err = startProcess(cmd, s.scratch.mark)
	return err
}

// command prepares one of PostgreSQL's programs, which runs as the server does.
func (s *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) //nolint:noctx // it is ended with more care than by a kill
	cmd.Dir, cmd.Env = s.scratch.dir, environment(s.options.Env)
	cmd.SysProcAttr = attributes(s.account)
	return cmd
}

// arguments are those of postgres: every setting stands there, since no file overrides the command line.
func (s *server) arguments(r pgfile.Resources) []string {
	data := s.scratch.path(dataName)
	conf := filepath.Join(data, confName)
	if _, err := os.Stat(conf); err != nil {
		conf = s.scratch.path(confName) // Debian and others keep it elsewhere
	}
	// Those that the WAL was written with are what it takes to replay it.
	atLeast := map[string]uint32{
		"max_connections": r.MaxConnections, "max_worker_processes": r.MaxWorkerProcesses, "max_wal_senders": r.MaxWALSenders,
		"max_prepared_transactions": r.MaxPreparedTransactions, "max_locks_per_transaction": r.MaxLocksPerTransaction,
	}
	set := s.private()
	for name, n := range atLeast {
		set[name] = strconv.FormatUint(uint64(n), 10)
	}
	set["config_file"] = conf
	maps.Copy(set, s.options.Settings)
	args := []string{"-D", data}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		args = append(args, "-c", name+"="+set[name])
	}
	return args
}

// essential are settings without which the drill would not find or understand its server.
func essential() []string {
	return []string{
		"data_directory", "hba_file", "ident_file", "port", "unix_socket_directories", "logging_collector", "log_destination",
		"log_line_prefix", "log_min_messages", "lc_messages",
	}
}

// private are the settings that keep a server to itself, whatever the files that came with the backup say.
func (s *server) private() map[string]string {
	set := map[string]string{
		"data_directory":    s.scratch.path(dataName),
		"hba_file":          s.scratch.path(accessName),
		"ident_file":        s.scratch.path(identitiesName),
		"external_pid_file": "",

		"listen_addresses": "", "port": strconv.Itoa(port),
		"unix_socket_directories": `"` + strings.ReplaceAll(s.scratch.socket, `"`, `""`) + `"`,
		"unix_socket_permissions": "0700", "unix_socket_group": "", "bonjour": "off", "ssl": "off",

		// A copy must not act in the place of its original.
		"archive_mode": "off", "archive_command": "", "max_logical_replication_workers": "0", "synchronous_standby_names": "",
		"shared_preload_libraries": s.options.Preload, "autovacuum": "off", "cluster_name": "pgcairn drill",

		// It may run beside the original. Nor does it need what that one needs.
		"shared_buffers": "128MB", "huge_pages": "try", "hot_standby": strconv.FormatBool(s.action == restore.Pause),

		// What the drill reads.
		"logging_collector": "off", "log_destination": "stderr", "log_line_prefix": "%m [%p] ", "log_min_messages": "warning",
		"log_error_verbosity": "default", "lc_messages": "C", "log_timezone": "UTC", "timezone": "UTC", "log_statement": "none",
		"log_min_duration_statement": "-1", "log_connections": "off", "log_disconnections": "off",

		// It is to tell of damage, and not to go on.
		"zero_damaged_pages": "off", "ignore_checksum_failure": "off", "ignore_system_indexes": "off", "restart_after_crash": "off",
	}
	if s.major < 15 {
		set["stats_temp_directory"] = "pg_stat_tmp" // Debian's is shared by all servers of a host
	} else {
		set["archive_library"] = ""
	}
	if s.major >= 17 {
		set["event_triggers"] = "off"
	}
	return set
}

// outcome is in what state the server has come out of recovery.
type outcome int

const (
	promoted outcome = iota
	paused
	shutDown // it does not run any more
)

// await waits until recovery has ended.
func (s *server) await(ctx context.Context) (outcome, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.process.done:
			log, err := readLog(s.scratch.path(logName))
			if err != nil {
				return 0, err
			}
			if s.action == restore.Shutdown && s.process.err == nil && log.shutDown {
				return shutDown, nil
			}
			return 0, &ServerError{Err: s.process.err, Log: log.tail}
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		if !s.accepts() {
			continue // and do not fill its log with attempts
		}
		state, ready, err := s.ask(ctx)
		if ready || err != nil {
			return state, err
		}
	}
}

// accepts tells whether the server has said that it takes connections: in the eighth line of its lock file (pidfile.h of
// PostgreSQL), as pg_ctl reads it. Without hot_standby it is a standby there that takes none.
func (s *server) accepts() bool {
	b, err := os.ReadFile(filepath.Join(s.scratch.path(dataName), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 8 {
		return false
	}
	status := strings.TrimSpace(lines[7])
	return status == "ready" || status == "standby" && s.action == restore.Pause
}

// ask asks the server once whether recovery has ended.
func (s *server) ask(ctx context.Context) (state outcome, ready bool, err error) {
	conn, err := s.connect(ctx, "")
	if err != nil {
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != "57P03" { // cannot_connect_now
			return 0, false, fmt.Errorf("the server has recovered, and cannot be asked: %w", err)
		}
		if errors.Is(err, fs.ErrPermission) {
			return 0, false, fmt.Errorf("the server cannot be reached: %w", err)
		}
		return 0, false, nil // it is not there yet, or not any more
	}
	defer closeConn(conn)
	query := `select not pg_is_in_recovery(), case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused' else false end`
	if s.major < 14 {
		query = `select not pg_is_in_recovery(), case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end`
	}
	var recovered, isPaused bool
	if err := conn.QueryRow(ctx, query).Scan(&recovered, &isPaused); err != nil {
		return 0, false, nil // it may have been promoted in between, or have ended
	}
	if recovered {
		return promoted, true, nil
	}
	return paused, isPaused, nil
}

// connect connects to a database as the superuser.
func (s *server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	database = cmp.Or(database, s.database)
	if database != "" {
		return s.connectTo(ctx, database)
	}
	conn, err := s.connectTo(ctx, "postgres")
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "3D000" { // invalid_catalog_name
		return s.connectTo(ctx, "template1")
	}
	return conn, err
}

func (s *server) connectTo(ctx context.Context, database string) (*pgx.Conn, error) {
	config, err := connConfig()
	if err != nil {
		return nil, err
	}
	config.Host, config.Port, config.User, config.Password, config.Database = s.scratch.socket, port, s.options.role(), "", database
	// Settings of a database or a role do not count, nor those of libpq's environment.
	config.RuntimeParams = map[string]string{
		"application_name": "pgcairn drill", "session_preload_libraries": "", "local_preload_libraries": "", "timezone": "UTC",
		"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
		"default_transaction_read_only": "off",
	}
	return pgx.ConnectConfig(ctx, config)
}

// connConfig is what connections have in common. What stands there is not taken from libpq's environment, but a service
// that is named there has to exist.
func connConfig() (*pgx.ConnConfig, error) {
	return pgx.ParseConfig("host=/ port=5432 user=x password=x dbname=x sslmode=disable target_session_attrs=any")
}

// closeConn closes a connection, whose server may be gone by then, also when the context has ended.
func closeConn(conn *pgx.Conn) { _ = conn.Close(context.Background()) }

// discard ends the server. None of it lives any more when the error is nil.
func (s *server) discard() error {
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return p.discard()
}

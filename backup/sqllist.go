package backup

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// listBounds are how many directories a query lists at most, and how many of their entries it yields.
type listBounds struct{ directories, entries int }

func defaultListBounds() listBounds { return listBounds{directories: 256, entries: 200_000} }

// maxDepth bounds how deep directories lie: SQL does not tell links, which may lead in a circle.
const maxDepth = 32

// listQuery lists directories, given with a slash behind them, the first of them from a name on. What has vanished
// meanwhile has no size.
const listQuery = `
	select e.n, e.name, s.size, s.isdir
	from (select d.n, d.path, l.name
		from unnest($1::text[]) with ordinality d(path, n), pg_ls_dir(d.path || '.', true, false) l(name)
		where d.n > 1 or l.name > $2::text collate "C"
		order by d.n, l.name collate "C" limit $3::bigint) e,
		pg_stat_file(e.path || e.name, true) s
	order by e.n, e.name collate "C"`

// listed is a row that listQuery yields.
type listed struct {
	Directory int64 // number, from 1
	Name      string
	Size      *int64
	IsDir     *bool
}

// Files lists the data directory. What it finds may have vanished by the time it is opened.
func (s *sqlSession) Files(ctx context.Context) iter.Seq2[Entry, error] {
	w := newWalker(ctx, s.control, s.start.Tablespaces, s.holder.log)
	return w.files(func(dirs []string, each func(string, []fs.DirEntry) error) error {
		return s.list(ctx, dirs, each)
	})
}

// list calls each with the entries of each directory.
func (s *sqlSession) list(ctx context.Context, dirs []string, each func(dir string, entries []fs.DirEntry) error) error {
	var entries []fs.DirEntry // of dirs[0], as far as they were listed
	var after string
	for len(dirs) > 0 {
		batch := dirs[:min(len(dirs), s.bounds.directories)]
		rows, err := s.listOnce(ctx, batch, after)
		if err != nil {
			return err
		}
		at := 0
		next := func() error {
			err := each(batch[at], entries)
			at, entries = at+1, nil
			return err
		}
		for _, row := range rows {
			if row.Directory <= int64(at) || row.Directory > int64(len(batch)) {
				return fmt.Errorf("directory %d of %d", row.Directory, len(batch))
			}
			for at < int(row.Directory)-1 {
				if err := next(); err != nil {
					return err
				}
			}
			if row.Size != nil && row.IsDir != nil && !isSocket(row.Name) {
				entries = append(entries, s.entry(batch[at], row))
			}
		}
		if last := len(rows) - 1; len(rows) == s.bounds.entries {
			dirs, after = dirs[at:], rows[last].Name
			continue
		}
		for at < len(batch) {
			if err := next(); err != nil {
				return err
			}
		}
		dirs, after = dirs[len(batch):], ""
	}
	return nil
}

// listOnce lists as much of the directories as a query may yield, the first of them from a name on.
func (s *sqlSession) listOnce(ctx context.Context, dirs []string, after string) (rows []listed, err error) {
	paths := make([]string, len(dirs))
	for i, dir := range dirs {
		if strings.Count(dir, "/") >= maxDepth {
			return nil, fmt.Errorf("%s: directories lie more than %d deep: does a link lead in a circle?", dir, maxDepth)
		}
		if dir != "" {
			paths[i] = dir + "/"
		}
	}
	err = s.readers.query(ctx, func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		result, err := conn.Query(ctx, listQuery, pgx.QueryExecModeExec, paths, after, s.bounds.entries)
		if err != nil {
			return false, err
		}
		rows, err = pgx.CollectRows(result, pgx.RowToStructByPos[listed])
		return false, err
	})
	return rows, err
}

// entry is what a row tells. SQL does not tell links; those of tablespaces are known.
func (s *sqlSession) entry(dir string, row listed) fs.DirEntry {
	e := sqlEntry{name: row.Name, size: *row.Size}
	if *row.IsDir {
		e.mode = fs.ModeDir
		if isTablespace(dir, row.Name) && !s.inPlace[row.Name] {
			e.mode = fs.ModeSymlink
		}
	}
	return e
}

// isSocket matches the sockets of servers, which look like files.
func isSocket(name string) bool {
	return strings.HasPrefix(name, ".s.PGSQL.") && !strings.HasSuffix(name, ".lock")
}

// sqlEntry is an entry of a directory, and all that is known of it.
type sqlEntry struct {
	name string
	size int64
	mode fs.FileMode // type only
}

func (e sqlEntry) Name() string               { return e.name }
func (e sqlEntry) IsDir() bool                { return e.mode.IsDir() }
func (e sqlEntry) Type() fs.FileMode          { return e.mode }
func (e sqlEntry) Info() (fs.FileInfo, error) { return e, nil }
func (e sqlEntry) Size() int64                { return e.size }
func (e sqlEntry) Mode() fs.FileMode          { return e.mode }
func (e sqlEntry) ModTime() time.Time         { return time.Time{} }
func (e sqlEntry) Sys() any                   { return nil }

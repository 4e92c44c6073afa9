package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

var framings = []int{14, 15}

// members are those of newScript.
var members = []string{
	"0 d PG_X 700 0  ",
	"0 d PG_X/5 700 0  ",
	"0 f PG_X/5/16385 600 1024  relation*1024",
	"1 f backup_label 600 21  START WAL LOCATION: \n",
	"1 d pg_wal 700 0  ",
	"1 d pg_wal/archive_status 700 0  ",
	"1 l pg_tblspc/16384 777 0 /away ",
	"1 f empty 600 0  ",
	"1 f odd 600 513  xxxxxxxx*513",
	"1 f global/pg_control 600 512  cccccccc*512",
	`1 m backup_manifest 0 -1  { "Postg*56`,
}

func TestBackup(t *testing.T) {
	for _, major := range framings {
		b, got, err := playScript(t, newScript(major))
		require.NoError(t, err)
		require.Equal(t, members, got)
		require.Equal(t, Position{LSN: 0x2000028, Timeline: 1}, b.Start)
		require.Equal(t, Position{LSN: 0x2000100, Timeline: 1}, b.End)
		require.Equal(t, []Tablespace{{OID: 16384, Location: "/away", Size: 7 << 10}, {Size: 20000 << 10}}, b.Tablespaces)
		_, err = b.Next()
		require.Equal(t, io.EOF, err)
		n, err := b.Read(make([]byte, 1))
		require.Zero(t, n)
		require.Equal(t, io.EOF, err)
		b.Close()
		_, err = b.Next()
		require.Equal(t, io.EOF, err, "after the end, Close does nothing")

		s := newScript(major)
		s.manifest, s.parts = false, s.parts[:2]
		_, got, err = playScript(t, s)
		require.NoError(t, err)
		require.Equal(t, members[:len(members)-1], got)
	}
}

// TestBackupUnread leaves contents unread, as one who is not interested does.
func TestBackupUnread(t *testing.T) {
	for _, major := range framings {
		for _, read := range []int{0, 1, 600} {
			b := newBackup(pgproto3.NewFrontend(bytes.NewReader(newScript(major).bytes(t)), io.Discard), major, &BackupOptions{Manifest: true})
			require.NoError(t, b.begin())
			names := 0
			for {
				_, err := b.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				names++
				_, err = io.CopyN(io.Discard, b, int64(read))
				if !errors.Is(err, io.EOF) {
					require.NoError(t, err)
				}
			}
			require.Equal(t, len(members), names)
		}
	}
}

// TestBackupCut ends the connection before the end of the backup, at places of every kind: none of them is that end.
func TestBackupCut(t *testing.T) {
	for _, major := range framings {
		sent := newScript(major).bytes(t)
		for n := 0; n < len(sent); n += 3 {
			_, _, err := play(major, true, bytes.NewReader(sent[:n]))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d of %d bytes", n, len(sent))
			require.NotErrorIs(t, err, io.EOF)
		}
		_, _, err := play(major, true, bytes.NewReader(sent))
		require.NoError(t, err)
		_, _, err = play(major, true, &wrappedEOF{bytes.NewReader(sent[:len(sent)-1])})
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "as a connection of the caller's may end")
		require.NotErrorIs(t, err, io.EOF)
	}
}

type wrappedEOF struct{ r io.Reader }

func (w *wrappedEOF) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil {
		err = fmt.Errorf("tunnel: %w", err)
	}
	return n, err
}

// TestBackupErrors has the server fail before each of its messages.
func TestBackupErrors(t *testing.T) {
	for _, major := range framings {
		all := newScript(major).all()
		for n := range all {
			s := newScript(major)
			s.messages = append(append(s.messages, all[:n]...), &pgproto3.ErrorResponse{Code: "57P01", Message: "shutting down"})
			_, _, err := playScript(t, s)
			var failed *pgconn.PgError
			require.ErrorAs(t, err, &failed, "before message %d, a %T", n, all[n])
			require.Equal(t, "57P01", failed.Code)
		}
	}
}

// sparse are the records of a file of 8 EiB that takes no space.
const sparse = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n24 GNU.sparse.name=bomb\n43 GNU.sparse.realsize=9223372036854775000\n"

func TestBackupRefuses(t *testing.T) {
	archive := func(members ...string) func(*script) {
		return func(s *script) { s.parts[1].content = pieces(strings.Join(members, ""), 1000) }
	}
	head := func(i int, head string) func(*script) { return func(s *script) { s.parts[i].head = head } }
	for name, c := range map[string]struct {
		change func(*script)
		want   string
		only   int // of the framings
	}{
		"no start":                   {want: "did not send one row", change: func(s *script) { s.messages = s.all()[3:] }},
		"no position":                {want: "did not send one row", change: func(s *script) { s.messages = append(result(), s.all()[3:]...) }},
		"a position that is none":    {want: "a position", change: func(s *script) { s.messages = append(result([]any{"x", "1"}), s.all()[3:]...) }},
		"no end":                     {want: "did not send one row", change: func(s *script) { s.end = nil }},
		"two ends":                   {want: "did not send one row", change: func(s *script) { s.end = append(s.end, s.end...) }},
		"an end on timeline 0":       {want: "a timeline", change: func(s *script) { s.end[0][1] = "0" }},
		"no tablespaces":             {want: "empty list", change: func(s *script) { s.tables = nil }},
		"no data directory":          {want: "no data directory", change: func(s *script) { s.tables = s.tables[:1] }},
		"a tablespace twice":         {want: "no OID of its own", change: func(s *script) { s.tables = append(s.tables[:1], s.tables...) }},
		"a tablespace without OID":   {want: "tablespace", change: func(s *script) { s.tables[0][0] = nil }},
		"a tablespace 0":             {want: "no OID of its own", change: func(s *script) { s.tables[0][0] = "0" }},
		"a tablespace nowhere":       {want: "no OID of its own", change: func(s *script) { s.tables[0][1] = nil }},
		"a size that is none":        {want: "tablespace", change: func(s *script) { s.tables[0][2] = "-1" }},
		"no second archive":          {want: "", change: func(s *script) { s.parts = s.parts[:1] }},
		"no manifest":                {want: "", change: func(s *script) { s.parts = s.parts[:2] }},
		"a manifest not asked for":   {want: "", change: func(s *script) { s.manifest = false }},
		"a part too many":            {want: "", change: func(s *script) { s.parts = append(s.parts, s.parts[2]) }},
		"archives in another order":  {want: "is due", change: head(0, "nbase.tar\x00\x00"), only: 15},
		"another tablespace":         {want: "is due", change: head(0, "n16385.tar\x00/away\x00"), only: 15},
		"another location":           {want: "is due", change: head(0, "n16384.tar\x00/elsewhere\x00"), only: 15},
		"a manifest for an archive":  {want: "is due", change: head(1, "m"), only: 15},
		"an archive for a manifest":  {want: "is due", change: head(2, "nbase.tar\x00\x00"), only: 15},
		"a head without a location":  {want: "a message 'n'", change: head(0, "n16384.tar\x00"), only: 15},
		"a manifest with a name":     {want: "a message 'm'", change: head(2, "mx"), only: 15},
		"progress of three bytes":    {want: "a message 'p'", change: head(0, "pxxx"), only: 15},
		"an unknown kind":            {want: "unknown kind", change: head(0, "z"), only: 15},
		"an empty message":           {want: "an empty message", change: head(0, ""), only: 15},
		"content of no archive":      {want: "content of no archive", change: head(0, "dx"), only: 15},
		"a damaged header":           {want: "invalid tar header", change: archive(strings.Repeat("x", 512))},
		"a hard link":                {want: "unknown type", change: archive(tarHeader("a", '1', 0, 0o600, "b"))},
		"a device":                   {want: "unknown type", change: archive(tarHeader("a", '3', 0, 0o600, ""))},
		"a directory with content":   {want: "does not write", change: archive(tarHeader("a/", '5', 512, 0o700, ""), strings.Repeat("x", 512))},
		"a sparse file of PAX's":     {want: "does not write", change: archive(tarHeader("PaxHeaders/a", 'x', 111, 0, ""), sparse, strings.Repeat("\x00", 512-111), tarHeader("a", '0', 512, 0o600, ""), "1\n0\n0\n", strings.Repeat("\x00", 506))},
		"a sparse file of GNU's":     {want: "invalid tar header", change: archive(tarHeader("a", 'S', 0, 0o600, ""))},
		"a file above":               {want: "not below", change: archive(tarFile("../a", ""))},
		"a file above in the middle": {want: "not below", change: archive(tarFile("a/../../a", ""))},
		"an absolute name":           {want: "not below", change: archive(tarFile("/a", ""))},
		"no name":                    {want: "not below", change: archive(tarHeader("./", '5', 0, 0o700, ""))},
		"more than is there":         {want: "unexpected EOF", change: archive(tarHeader("a", '0', 1000, 0o600, ""), strings.Repeat("x", 512))},
		"a huge file":                {want: "unexpected EOF", change: archive(tarHeader("a", '0', 1<<40, 0o600, ""), strings.Repeat("x", 512))},
		"half a header":              {want: "unexpected EOF", change: archive(tarFile("a", ""), tarFile("b", "")[:200])},
		"content behind the end":     {want: "behind the end", change: archive(tarFile("a", ""), strings.Repeat("\x00", 2048), tarFile("b", ""))},
		"no end of the command":      {want: "unexpected EOF", change: func(s *script) { s.ready = false }},
	} {
		for _, major := range framings {
			if c.only != 0 && major != c.only {
				continue
			}
			s := newScript(major)
			c.change(s)
			_, _, err := playScript(t, s)
			require.ErrorContains(t, err, c.want, "%s, %d", name, major)
			require.NotErrorIs(t, err, io.EOF, name)
		}
	}
}

// TestBackupSizes has sizes that take a header of another kind.
func TestBackupSizes(t *testing.T) {
	for _, major := range framings {
		s := newScript(major)
		s.parts[1].content = [][]byte{[]byte(tarHeader("large", '0', 9<<30, 0o600, ""))}
		b := newBackup(pgproto3.NewFrontend(bytes.NewReader(s.bytes(t)), io.Discard), major, &BackupOptions{Manifest: true})
		require.NoError(t, b.begin())
		for {
			m, err := b.Next()
			require.NoError(t, err)
			if m.Name == "large" {
				require.EqualValues(t, 9<<30, m.Size)
				break
			}
		}
	}
}

func TestBackupNotices(t *testing.T) {
	for _, major := range framings {
		var heard []string
		front := pgproto3.NewFrontend(bytes.NewReader(newScript(major).bytes(t)), io.Discard)
		b := newBackup(front, major, &BackupOptions{Manifest: true, Notice: func(n *pgconn.Notice) { heard = append(heard, n.Message) }})
		require.NoError(t, b.begin())
		require.Equal(t, []string{"by the way"}, heard)
	}
}

// TestBackupResultBound: what is kept in memory is bounded.
func TestBackupResultBound(t *testing.T) {
	s := newScript(15)
	row := [3]any{"1", strings.Repeat("x", 1<<20), "1"}
	for range 20 {
		s.tables = append(s.tables, row)
	}
	_, _, err := playScript(t, s)
	require.ErrorContains(t, err, "a result of more than")
}

func TestBackupCommand(t *testing.T) {
	all := BackupOptions{
		Label: "it's a label", Fast: true, Progress: true, WaitForArchive: true, MaxRate: 1024, TablespaceMap: true,
		VerifyChecksums: true, Manifest: true,
	}
	for _, c := range []struct {
		o     BackupOptions
		major int
		want  string
	}{
		{BackupOptions{}, 14, "BASE_BACKUP NOWAIT NOVERIFY_CHECKSUMS"},
		{BackupOptions{}, 15, "BASE_BACKUP (PROGRESS false, TABLESPACE_MAP false, WAIT false, VERIFY_CHECKSUMS false)"},
		{all, 13, "BASE_BACKUP LABEL 'it''s a label' PROGRESS FAST TABLESPACE_MAP MAX_RATE 1024 MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"},
		{all, 16, "BASE_BACKUP (LABEL 'it''s a label', PROGRESS true, CHECKPOINT 'fast', TABLESPACE_MAP true, WAIT true, " +
			"VERIFY_CHECKSUMS true, MAX_RATE 1024, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"},
		{BackupOptions{Incremental: true}, 17, "BASE_BACKUP (PROGRESS false, TABLESPACE_MAP false, WAIT false, VERIFY_CHECKSUMS false, INCREMENTAL true)"},
	} {
		got, err := c.o.command(c.major)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := (&BackupOptions{Incremental: true}).command(16)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	for _, bad := range []string{"a\nSTART TIMELINE: 7", "\x00", strings.Repeat("x", 1025)} {
		_, err := (&BackupOptions{Label: bad}).command(18)
		require.Error(t, err)
	}
}

// FuzzBackup reads backups from servers that send anything at all. A backup is complete only when the server has said so.
func FuzzBackup(f *testing.F) {
	for _, major := range framings {
		f.Add(major >= 15, newScript(major).bytes(f))
		s := newScript(major)
		s.manifest, s.parts = false, s.parts[:2]
		f.Add(major >= 15, s.bytes(f))
	}
	f.Fuzz(func(t *testing.T, typed bool, sent []byte) {
		major := 14
		if typed {
			major = 15
		}
		b, got, err := play(major, true, bytes.NewReader(sent))
		require.NotErrorIs(t, err, io.EOF)
		if err == nil {
			require.True(t, bytes.Contains(sent, []byte("Z\x00\x00\x00\x05")))
			require.NotZero(t, b.End.Timeline)
			require.NotEmpty(t, b.Tablespaces)
			require.Contains(t, got[len(got)-1], "backup_manifest")
		}
	})
}

// FuzzArchive reads archives with anything at all in them.
func FuzzArchive(f *testing.F) {
	for _, major := range framings {
		for _, p := range newScript(major).parts[:2] {
			f.Add(major >= 15, bytes.Join(p.content, nil))
		}
	}
	f.Add(true, []byte(tarHeader("PaxHeaders/a", 'x', 111, 0, "")+sparse+strings.Repeat("\x00", 512-111)+tarHeader("a", '0', 512, 0o600, "")))
	f.Fuzz(func(t *testing.T, typed bool, content []byte) {
		s := newScript(14)
		if typed {
			s = newScript(15)
		}
		s.parts[1].content = pieces(string(content), 1000)
		b := newBackup(pgproto3.NewFrontend(bytes.NewReader(s.bytes(t)), io.Discard), s.major, &BackupOptions{Manifest: true})
		require.NoError(t, b.begin())
		for {
			m, err := b.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				require.NotErrorIs(t, err, io.EOF)
				return
			}
			require.True(t, filepath.IsLocal(m.Name), "%q", m.Name)
			n, err := io.Copy(io.Discard, b)
			if err == nil && m.Type != Manifest {
				require.Equal(t, m.Size, n)
			}
		}
	})
}

func FuzzParseCopyEntry(f *testing.F) {
	for _, seed := range []string{"n16384.tar\x00/away\x00", "nbase.tar\x00\x00", "m", "dcontent", "p\x00\x00\x00\x00\x00\x00\x00\x01"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseCopyEntry(b)
		if err != nil {
			require.Equal(t, copyEntry{}, e)
		} else if e.kind == copyArchive {
			require.Equal(t, string(b), "n"+e.name+"\x00"+e.location+"\x00")
		}
	})
}

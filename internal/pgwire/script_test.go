package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// script is what a server sends in a made-up backup, in the order of basebackup_copy.c.
type script struct {
	major    int
	tables   [][3]any // rows of the list of tablespaces
	parts    []part
	manifest bool
	end      [][2]any
	messages []pgproto3.BackendMessage // in place of all that
	ready    bool
}

// part is an archive, or the manifest, cut into messages.
type part struct {
	head    string // of the message that announces it, since 15
	content [][]byte
}

// newScript is a backup of a tablespace and a data directory, as it should be.
func newScript(major int) *script {
	trailer := ""
	if major >= 15 {
		trailer = strings.Repeat("\x00", 1024)
	}
	away := tarHeader("PG_X/", '5', 0, 0o700, "") + tarHeader("PG_X/5/", '5', 0, 0o700, "") +
		tarFile("PG_X/5/16385", strings.Repeat("relation", 128)) + trailer
	base := tarFile("backup_label", "START WAL LOCATION: \n") + tarHeader("pg_wal/", '5', 0, 0o700, "") +
		tarHeader("./pg_wal/archive_status/", '5', 0, 0o700, "") + tarHeader("pg_tblspc/16384/", '2', 0, 0o777, "/away") +
		tarFile("empty", "") + tarFile("odd", strings.Repeat("x", 513)) + tarFile("global/pg_control", strings.Repeat("c", 512)) + trailer
	return &script{
		major: major, manifest: true, ready: true,
		tables: [][3]any{{"16384", "/away", "7"}, {nil, nil, "20000"}},
		parts: []part{
			{head: "n16384.tar\x00/away\x00", content: pieces(away, 700)},
			{head: "nbase.tar\x00\x00", content: pieces(base, 1000)},
			{head: "m", content: pieces(`{ "PostgreSQL-Backup-Manifest-Version": 1, "Files": [] }`, 10)},
		},
		end: [][2]any{{"0/2000100", "1"}},
	}
}

func pieces(s string, n int) (list [][]byte) {
	for len(s) > 0 {
		m := min(n, len(s))
		list = append(list, []byte(s[:m]))
		s = s[m:]
	}
	return list
}

// tarFile is a regular file as PostgreSQL sends it.
func tarFile(name, content string) string {
	padding := strings.Repeat("\x00", (512-len(content)%512)%512)
	return tarHeader(name, '0', int64(len(content)), 0o600, "") + content + padding
}

// tarHeader is a header as tarCreateHeader of tar.c writes it.
func tarHeader(name string, kind byte, size int64, mode int, link string) string {
	h := make([]byte, 512)
	number := func(at, width int, v int64) {
		if v < 1<<(3*(width-1)) {
			copy(h[at:], fmt.Sprintf("%0*o ", width-1, v))
			return
		}
		for i := width - 1; i > 0; i-- {
			h[at+i] = byte(v)
			v >>= 8
		}
		h[at] = 0x80
	}
	copy(h[:100], name)
	number(100, 8, int64(mode))
	number(108, 8, 70)
	number(116, 8, 70)
	number(124, 12, size)
	number(136, 12, 1_700_000_000)
	h[156] = kind
	copy(h[157:257], link)
	copy(h[257:], "ustar\x0000postgres")
	copy(h[297:], "postgres")
	number(329, 8, 0)
	number(337, 8, 0)
	copy(h[148:156], "        ")
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	number(148, 8, sum)
	return string(h)
}

// bytes is all that the server sends.
func (s *script) bytes(t testing.TB) []byte {
	t.Helper()
	var b []byte
	for _, m := range s.all() {
		var err error
		b, err = m.Encode(b)
		require.NoError(t, err)
	}
	return b
}

func (s *script) all() []pgproto3.BackendMessage {
	if s.messages != nil {
		return s.messages
	}
	var list []pgproto3.BackendMessage
	add := func(m ...pgproto3.BackendMessage) { list = append(list, m...) }
	add(result([]any{"0/2000028", "1"})...)
	var rows [][]any
	for _, r := range s.tables {
		rows = append(rows, r[:])
	}
	add(&pgproto3.NoticeResponse{Severity: "NOTICE", Message: "by the way"})
	add(result(rows...)...)
	typed := s.major >= 15
	if typed {
		add(&pgproto3.CopyOutResponse{})
	}
	for i, p := range s.parts {
		if typed {
			add(&pgproto3.CopyData{Data: []byte(p.head)})
		} else {
			add(&pgproto3.CopyOutResponse{})
		}
		for _, c := range p.content {
			if typed {
				c = append([]byte("d"), c...)
			}
			add(&pgproto3.CopyData{Data: c})
		}
		if typed && i < len(s.tables) {
			add(&pgproto3.CopyData{Data: []byte("p\x00\x00\x00\x00\x00\x00\x2a\x00")})
		}
		if !typed {
			add(&pgproto3.CopyDone{})
		}
	}
	if typed {
		add(&pgproto3.CopyDone{})
	}
	rows = nil
	for _, r := range s.end {
		rows = append(rows, r[:])
	}
	add(result(rows...)...)
	if s.ready {
		add(&pgproto3.CommandComplete{CommandTag: []byte("BASE_BACKUP")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
	return list
}

func result(rows ...[]any) (list []pgproto3.BackendMessage) {
	list = append(list, &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("c")}}})
	for _, row := range rows {
		var d pgproto3.DataRow
		for _, v := range row {
			if v == nil {
				d.Values = append(d.Values, nil)
			} else {
				d.Values = append(d.Values, []byte(v.(string)))
			}
		}
		list = append(list, &d)
	}
	return append(list, &pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}

// play reads a backup from what a server sends. got has a line for each member; that there is no error says that the
// backup is complete.
func play(major int, manifest bool, sent io.Reader) (b *Backup, got []string, err error) {
	front := pgproto3.NewFrontend(sent, io.Discard)
	front.SetMaxBodyLen(maxMessage)
	b = newBackup(front, major, &BackupOptions{Manifest: manifest})
	if err := b.begin(); err != nil {
		return b, nil, err
	}
	for {
		m, err := b.Next()
		if errors.Is(err, io.EOF) {
			return b, got, nil
		}
		if err != nil {
			return b, got, err
		}
		content, err := io.ReadAll(io.LimitReader(b, 1<<20))
		if err != nil {
			return b, got, err
		}
		if len(content) > 40 {
			content = fmt.Appendf(nil, "%s*%d", content[:8], len(content))
		}
		got = append(got, fmt.Sprintf("%d %c %s %o %d %s %s", m.Tablespace, "fdlm"[m.Type], m.Name, m.Mode, m.Size, m.Link, content))
	}
}

func playScript(t testing.TB, s *script) (*Backup, []string, error) {
	return play(s.major, s.manifest, bytes.NewReader(s.bytes(t)))
}

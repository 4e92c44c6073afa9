package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/stretchr/testify/require"
)

// sender is a server that sends a made-up backup, of a data directory without tablespaces.
type sender struct {
	settings   map[string]string
	id         uint64
	start, end [2]any // position and timeline
	spaces     [][]any
	files      []sent
}

type sent struct{ name, content string }

// newSender sends a backup as it should be.
func newSender(t *testing.T) *sender {
	t.Helper()
	m, err := backup.Take(t.Context(), newRepo(t, nil, nil), backuptest.New(nil), nil)
	require.NoError(t, err)
	checksums := map[bool]string{true: "on", false: "off"}[m.DataChecksums]
	return &sender{
		settings: map[string]string{
			"server_version_num": "180004", "block_size": fmt.Sprint(m.PageSize), "segment_size": "1GB",
			"wal_segment_size": fmt.Sprintf("%dMB", m.WALSegmentSize>>20), "data_checksums": checksums, "in_hot_standby": "off", "idle_session_timeout": "0",
		},
		id: m.SystemID, start: [2]any{"0/2000028", "1"}, end: [2]any{"0/2000100", "1"}, spaces: [][]any{{nil, nil, nil}},
		files: []sent{
			{"backup_label", "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\nSTART TIMELINE: 1\n"},
			{"PG_VERSION", "18\n"},
			{"pg_wal/000000010000000000000002", "WAL"},
			{"standby.signal", ""},
			{"global/pg_control", string(m.Control)},
		},
	}
}

// begin begins a backup of it.
func (s *sender) begin(t *testing.T) (*backup.ReplicationSession, error) {
	t.Helper()
	connect := func(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
		if params["replication"] == "" {
			return nil, errors.New("no ordinary connections here")
		}
		require.Equal(t, "true", params["replication"])
		config, err := pgx.ParseConfig("host=fake user=postgres sslmode=disable")
		require.NoError(t, err)
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"fake"}, nil }
		config.DialFunc = func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go s.serve(server)
			return client, nil
		}
		return pgx.ConnectConfig(ctx, config)
	}
	source, err := backup.Replication("", &backup.ReplicationOptions{Connect: connect})
	require.NoError(t, err)
	session, err := source.Begin(t.Context(), backup.BeginOptions{})
	if err != nil {
		return nil, err
	}
	_, err = session.(backup.Streamer).Send(t.Context(), nil)
	return session.(*backup.ReplicationSession), err
}

func (s *sender) serve(conn net.Conn) {
	defer conn.Close()
	b := pgproto3.NewBackend(conn, conn)
	if m, err := b.ReceiveStartupMessage(); err != nil {
		return
	} else if _, ok := m.(*pgproto3.StartupMessage); !ok {
		return // to cancel
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "18.4"})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		message, err := b.Receive()
		if err != nil {
			return
		}
		switch m := message.(type) {
		case *pgproto3.Query:
			switch words := strings.Fields(m.String); words[0] {
			case "IDENTIFY_SYSTEM":
				sendRows(b, []any{fmt.Sprint(s.id), "1", "0/2000000", nil})
			case "SHOW":
				sendRows(b, []any{s.settings[words[1]]})
			case "CREATE_REPLICATION_SLOT":
				sendRows(b, []any{"a slot"})
			case "START_REPLICATION":
				b.Send(&pgproto3.CopyBothResponse{})
				continue
			case "BASE_BACKUP":
				s.send(b)
			default:
				return
			}
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.CopyData: // a status, which asks for an answer
			alive := binary.BigEndian.AppendUint64(append([]byte{'k'}, make([]byte, 8)...), 1_000_000)
			b.Send(&pgproto3.CopyData{Data: append(alive, 0)})
		case *pgproto3.CopyDone:
			b.Send(&pgproto3.CopyDone{})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("START_STREAMING")})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		default:
			return
		}
	}
}

// send sends the backup.
func (s *sender) send(b *pgproto3.Backend) {
	sendRows(b, s.start[:])
	sendRows(b, s.spaces...)
	b.Send(&pgproto3.CopyOutResponse{})
	b.Send(&pgproto3.CopyData{Data: []byte("nbase.tar\x00\x00")})
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range s.files {
		// What goes wrong here the other side finds.
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: 0o600, Format: tar.FormatUSTAR})
		_, _ = io.WriteString(w, f.content)
	}
	_ = w.Close()
	for rest := archive.Bytes(); len(rest) > 0; {
		n := min(len(rest), 32<<10)
		b.Send(&pgproto3.CopyData{Data: append([]byte("d"), rest[:n]...)})
		rest = rest[n:]
	}
	b.Send(&pgproto3.CopyData{Data: []byte("m")})
	b.Send(&pgproto3.CopyData{Data: []byte("dmanifest")})
	b.Send(&pgproto3.CopyDone{})
	sendRows(b, s.end[:])
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("BASE_BACKUP")})
}

func sendRows(b *pgproto3.Backend, rows ...[]any) {
	b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("c")}}})
	for _, row := range rows {
		var d pgproto3.DataRow
		for _, v := range row {
			if text, ok := v.(string); ok {
				d.Values = append(d.Values, []byte(text))
			} else {
				d.Values = append(d.Values, nil)
			}
		}
		b.Send(&d)
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}

// TestReplicationRefuses: what does not fit together is no backup.
func TestReplicationRefuses(t *testing.T) {
	t.Parallel()
	read := func(t *testing.T, s *sender) (entries []backup.Entry, stop backup.Stop, err error) {
		session, err := s.begin(t)
		if err != nil {
			return nil, stop, err
		}
		defer session.Close()
		for {
			e, err := session.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return entries, stop, err
			}
			entries = append(entries, e.Entry)
		}
		stop, err = session.Stop(t.Context())
		return entries, stop, err
	}
	good := newSender(t)
	entries, stop, err := read(t, good)
	require.NoError(t, err)
	require.Equal(t, []backup.Entry{{Path: "PG_VERSION", Size: 3}, {Path: "backup_manifest", Size: -1}}, entries, "exclusions are ours, whatever the server sends")
	require.Equal(t, good.files[4].content, string(stop.Control))
	require.Equal(t, time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC), stop.Time)

	label := func(from, to string) func(*sender) {
		return func(s *sender) { s.files[0].content = strings.Replace(s.files[0].content, from, to, 1) }
	}
	for want, change := range map[string]func(*sender){
		"PostgreSQL 19, supported are":          func(s *sender) { s.settings["server_version_num"] = "190000" },
		"PostgreSQL 12, supported are":          func(s *sender) { s.settings["server_version_num"] = "120022" },
		`block_size is ""`:                      func(s *sender) { s.settings["block_size"] = "" },
		"no backup_label":                       func(s *sender) { s.files = s.files[1:] },
		"no pg_control":                         func(s *sender) { s.files = s.files[:4] },
		"mine after pg_control":                 func(s *sender) { s.files = append(s.files, sent{"mine", ""}) },
		"global/pg_control after pg_control":    func(s *sender) { s.files = append(s.files, s.files[4]) },
		"begins at 0/3000028 on timeline 1":     label("0/2000028", "0/3000028"),
		"begins at 0/2000028 on timeline 2":     label("TIMELINE: 1", "TIMELINE: 2"),
		"backup label: start location":          label("CHECKPOINT", "X"),
		"began on timeline 1 and ended on 2":    func(s *sender) { s.end[1] = "2" },
		"ends at 0/2000028, where it begins":    func(s *sender) { s.end[0] = "0/2000028" },
		"does not match its checksum":           func(s *sender) { s.files[4].content = "\x00" + s.files[4].content[1:] },
		"pg_control has 5 bytes only":           func(s *sender) { s.files[4].content = "short" },
		"sends a global/pg_control of 70000":    func(s *sender) { s.files[4].content += strings.Repeat("\x00", 70000-len(s.files[4].content)) },
		"sends a backup_label of 100000 bytes":  func(s *sender) { s.files[0].content = strings.Repeat("x", 100000) },
		"the server's of cluster 1 with":        func(s *sender) { s.id = 1 },
		"PageSize:8192":                         func(s *sender) { s.settings["block_size"] = "16384" },
		"RelSegPages:131072":                    func(s *sender) { s.settings["segment_size"] = "2GB" },
		"pg_control is of cluster":              func(s *sender) { s.settings["wal_segment_size"] = "512MB" },
		"Checksums:true}, the server's":         func(s *sender) { s.settings["data_checksums"] = "off" },
		`member "../mine" is not below`:         func(s *sender) { s.files[1].name = "../mine" },
		"the server sent a tablespace":          func(s *sender) { s.spaces[0][0] = "x" },
		"archive \"16384.tar\" of \"/away\" is": func(s *sender) { s.spaces = append([][]any{{"16384", "/away", nil}}, s.spaces...) },
	} {
		s := newSender(t)
		change(s)
		_, _, err := read(t, s)
		require.ErrorContains(t, err, want)
		require.NotErrorIs(t, err, io.EOF, want)
	}
}

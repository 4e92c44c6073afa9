package backup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/stretchr/testify/require"
)

// realManifest returns the text of a manifest that was written once, and its ID.
func realManifest(t testing.TB) ([]byte, ID) {
	t.Helper()
	text, err := os.ReadFile("testdata/golden/plain.manifest.jsonl")
	require.NoError(t, err)
	return text, idOf(text)
}

// layout2 returns the texts of manifests that need that layout.
func layout2(t testing.TB) (all [][]byte) {
	t.Helper()
	paths, err := filepath.Glob("testdata/golden-layout2/*.jsonl")
	require.NoError(t, err)
	require.Len(t, paths, 6)
	for _, p := range paths {
		text, err := os.ReadFile(p)
		require.NoError(t, err)
		all = append(all, text)
	}
	return all
}

// idOf is the ID that a manifest's text gives.
func idOf(text []byte) ID {
	_, rest, _ := bytes.Cut(text, []byte(`"id":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	return ID(id)
}

func TestManifestSurvivesItsText(t *testing.T) {
	text, id := realManifest(t)
	for name, r := range map[string]io.Reader{
		"at once": bytes.NewReader(text), "byte by byte": iotest.OneByteReader(bytes.NewReader(text)),
		"with its end": iotest.DataErrReader(bytes.NewReader(text)),
	} {
		t.Run(name, func(t *testing.T) {
			m, err := decodeManifest(r, id)
			require.NoError(t, err)
			again, err := m.Encode()
			require.NoError(t, err)
			require.Equal(t, string(text), string(again))
		})
	}
	// A reader that fails is not a manifest that is corrupt.
	broken := errors.New("the network is down")
	_, err := decodeManifest(io.MultiReader(bytes.NewReader(text[:len(text)/2]), iotest.ErrReader(broken)), id)
	require.ErrorIs(t, err, broken)
	var corrupt *repo.CorruptError
	require.NotErrorAs(t, err, &corrupt)
}

// A manifest says nothing that could lead a restore astray.
func TestManifestThatCannotBe(t *testing.T) {
	file := func(path string, size int64) func(m *Manifest) {
		return func(m *Manifest) {
			i, _ := slices.BinarySearchFunc(m.FileList, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
			m.FileList = slices.Insert(m.FileList, i, File{Path: path, Size: size})
			for _, pieces := range m.PackList[0].Pieces {
				for k := range pieces {
					if pieces[k].File >= i {
						pieces[k].File++
					}
				}
			}
		}
	}
	badPath := func(p string) func(m *Manifest) {
		return func(m *Manifest) { m.FileList = append([]File{{Path: p}}, m.FileList...) }
	}
	badDir := func(p string) func(m *Manifest) {
		return func(m *Manifest) { m.Directories = []string{p} }
	}
	piece := func(change func(p *Piece)) func(m *Manifest) {
		return func(m *Manifest) { change(&m.PackList[0].Pieces[0][0]) }
	}
	frame := func(change func(f *repo.Frame)) func(m *Manifest) {
		return func(m *Manifest) { change(&m.PackList[0].Frames[0]) }
	}
	const astray, foreign = "is not one of a data directory", "does not belong in a backup"
	tests := []struct {
		name string
		do   func(m *Manifest)
		want string
	}{
		{"no label", func(m *Manifest) { m.Label = "" }, "label is missing"},
		{"no pg_control", func(m *Manifest) { m.Control = nil }, "a line of unknown content"},
		{"fewer files", func(m *Manifest) { m.FileList = m.FileList[:1] }, "the summary counts otherwise"},
		{"parent", badPath("../x"), astray},
		{"parent alone", badPath(".."), astray},
		{"absolute", badPath("/etc/passwd"), astray},
		{"parent within", badPath("a/../../x"), astray},
		{"not clean", badPath("a/./x"), astray},
		{"doubled slash", badPath("a//x"), astray},
		{"slash at the end", badPath("a/"), astray},
		{"empty", badPath(""), astray},
		{"dot", badPath("."), astray},
		{"backslashes", badPath(`..\..\x`), astray},
		{"drive", badPath(`C:\x`), astray},
		{"zero byte", badPath("a\x00b"), astray},
		{"longer than any path", badPath(strings.Repeat("a/", 2100) + "a"), astray},
		{"not UTF-8", badPath("a\xffb"), "out of order"}, // JSON makes it another character, which sorts elsewhere
		{"parent as a directory", badDir("../x"), astray},
		{"absolute directory", badDir("/x"), astray},
		{"pg_control", badPath("global/pg_control"), foreign},
		{"below pg_control", badPath("global/pg_control/x"), foreign},
		{"restore's mark", badPath("pgcairn.restore"), foreign},
		{"restore's mark to be", badPath("pgcairn.restore.tmp"), foreign},
		{"what restore once had beside its mark", badPath("pgcairn.restore.frames"), foreign},
		{"restore's pg_control", badPath("global/pg_control.pgcairn"), foreign},
		{"signal file", badPath("standby.signal"), foreign},
		{"below a signal file", badDir("recovery.signal/x"), foreign},
		{"postmaster.pid", badPath("postmaster.pid"), foreign},
		{"WAL", badPath("pg_wal/000000010000000000000001"), foreign},
		{"directory in pg_wal", badDir("pg_wal/archive_status"), foreign},
		{"temporary relation", badPath("base/5/t3_16384"), foreign},
		{"pg_wal as a file", file("pg_wal", 0), "both a file and a directory"},
		{"tablespace as a file", file("pg_tblspc/16385", 0), "both a file and a directory"},
		{"file below a file", file("pg_xact/0000/x", 0), "both a file and a directory"},
		{"file deep below a file", file("pg_xact/0000/x/y/z", 0), "both a file and a directory"},
		{"file as a directory", func(m *Manifest) {
			m.Directories = append(m.Directories, "pg_xact/0000")
			slices.Sort(m.Directories)
		}, "both a file and a directory"},
		{"file twice", func(m *Manifest) { m.FileList = append(m.FileList, m.FileList[len(m.FileList)-1]) }, "out of order"},
		{"directory twice", func(m *Manifest) { m.Directories = append(m.Directories, m.Directories[len(m.Directories)-1]) }, "out of order"},
		{"tablespace twice", func(m *Manifest) { m.Tablespaces = append(m.Tablespaces, m.Tablespaces[0]) }, "out of order"},
		{"tablespace 0", func(m *Manifest) { m.Tablespaces[0].OID = 0 }, "out of order"},
		{"pack twice", func(m *Manifest) { m.PackList = append(m.PackList, m.PackList[0]) }, "out of order"},
		{"bad page twice", func(m *Manifest) { m.BadPageList = []BadPage{{"a", 1}, {"a", 1}} }, "out of order"},
		{"negative size", file("z", -1), "of -1 bytes"},
		{"huge size", file("z", 1<<60), "bytes"},
		{"more data than size", func(m *Manifest) { m.FileList[0].Data = m.FileList[0].Size + 1 }, "bytes"},
		{"less data than pieces", func(m *Manifest) { m.FileList[0].Data-- }, "have 3 bytes, want 2"},
		{"piece of no file", piece(func(p *Piece) { p.File = 1000 }), "a piece of file 1000"},
		{"piece of file -2", piece(func(p *Piece) { p.File = -2 }), "malformed piece"},
		{"piece that is not needed", piece(func(p *Piece) { p.File = NoFile }), "have 0 bytes, want 3"},
		{"frame that is not needed", func(m *Manifest) { m.PackList[0].Pieces[0] = nil }, "have 0 bytes, want 3"},
		{"piece beyond its file", piece(func(p *Piece) { p.Offset++ }), "outside of file"},
		{"piece before its file", piece(func(p *Piece) { p.Offset = -1 }), "outside of file"},
		{"piece at the end of all numbers", piece(func(p *Piece) { p.Offset = 1<<63 - 1 }), "outside of file"},
		{"empty piece", piece(func(p *Piece) { p.Length = 0 }), "outside of file"},
		{"negative piece", piece(func(p *Piece) { p.Length = -1 }), "malformed piece"},
		{"shorter piece", piece(func(p *Piece) { p.Length-- }), "bytes of pieces, want"},
		{"huge piece", piece(func(p *Piece) { p.Length = 1 << 40 }), "malformed piece"},
		{"pieces that overlap", func(m *Manifest) {
			p := m.PackList[0].Pieces[0]
			i := slices.IndexFunc(p, func(p Piece) bool { return p.Length > 8192 })
			p[i].Length -= 8192
			m.PackList[0].Pieces[0] = slices.Insert(p, i, Piece{File: p[i].File, Length: 8192})
		}, "two sources for bytes"},
		{"empty frame", frame(func(f *repo.Frame) { f.Raw = 0 }), "size out of bounds"},
		{"huge frame", frame(func(f *repo.Frame) { f.Raw = 1 << 40 }), "size out of bounds"},
		{"huge stored frame", frame(func(f *repo.Frame) { f.Stored = 1 << 40 }), "size out of bounds"},
		{"unknown codec", frame(func(f *repo.Frame) { f.Codec = "lzma" }), "unknown codec"},
		{"pack under a bad key", func(m *Manifest) { m.PackList[0].Key = "../pgcairn.json" }, "pack"},
		{"other timeline", func(m *Manifest) { m.Timeline = 0 }, "malformed summary"},
		{"stop before start", func(m *Manifest) { m.StopLSN = m.StartLSN - 1 }, "malformed summary"},
		{"no start", func(m *Manifest) { m.StartLSN, m.StopLSN = 0, 0 }, "malformed summary"},
		{"segment size", func(m *Manifest) { m.WALSegmentSize = 12345 }, "malformed summary"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, id := realManifest(t)
			m, err := decodeManifest(bytes.NewReader(text), id)
			require.NoError(t, err)
			tt.do(m)
			if tt.name != "fewer files" {
				m.Files, m.Packs, m.BadPages = len(m.FileList), len(m.PackList), len(m.BadPageList)
			}
			text, err = m.Encode()
			require.NoError(t, err)
			requireCorrupt(t, text, id, tt.want)
		})
	}
}

func TestTextThatIsNoManifest(t *testing.T) {
	text, id := realManifest(t)
	other := newID(time.Now(), "")
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	head, end := lines[0], len(lines)-1
	seal := func(v string) string {
		b, err := repo.SealRecord(id.manifestKey(), rawJSON(v))
		require.NoError(t, err)
		return string(b)
	}
	tests := []struct {
		name string
		text string
		want string
	}{
		{"empty", "", "it has no summary"},
		{"no newline", strings.TrimSuffix(head, "\n"), "it has no summary"},
		{"other bytes", "\x28\xb5\x2f\xfd\n", "no checksum"},
		{"long first line", strings.Repeat("x", 1<<17), "it has no summary"},
		{"summary alone", head, "it has no end"},
		{"summary changed", strings.Replace(string(text), `"timeline":1`, `"timeline":2`, 1), "checksum mismatch"},
		{"summary of another backup", strings.Replace(string(text), string(id), string(other), 1), "checksum mismatch"},
		{"summary of another backup, sealed", seal(`{"pgcairn_manifest":1,"id":"` + string(other) + `"}`), "malformed summary"},
		{"layout 0", seal(`{"pgcairn_manifest":0,"id":"` + string(id) + `"}`), "malformed summary"},
		{"no end", strings.Join(lines[:end], ""), "it has no end"},
		{"end without newline", string(text[:len(text)-1]), "malformed line"},
		{"cut in a line", string(text[:len(text)-20]), "malformed line"},
		{"content after its end", string(text) + lines[1], "content after its end"},
		{"end twice", string(text) + lines[end] + "\n", "content after its end"},
		{"a file less", strings.Join(slices.Concat(lines[:end-3], lines[end-2:]), "") + "\n", "its end counts otherwise"},
		{"label twice", head + lines[1] + strings.Join(lines[1:], "") + "\n", "twice the same"},
		{"empty line", head + "\n" + strings.Join(lines[1:], "") + "\n", "malformed line"},
		{"unknown line", head + "{\"x\":1}\n" + strings.Join(lines[1:], "") + "\n", "unknown content"},
		{"null", head + "null\n", "unknown content"},
		{"array", head + "[]\n", "cannot unmarshal"},
		{"file twice", head + `{"file":{"path":"a","size":0,"data":0}}` + "\n" + `{"file":{"path":"a","size":0,"data":0}}` + "\n", "out of order"},
		{"piece of four", head + `{"pack":{"key":"packs/a/1","frames":[{"raw":1,"stored":1,"codec":"zstd","hash":"` + strings.Repeat("0", 32) + `","pieces":[[0,0,1,1]]}]}}` + "\n", "malformed piece"},
		{"short hash", head + `{"pack":{"key":"packs/a/1","frames":[{"raw":1,"stored":1,"codec":"zstd","hash":"00","pieces":[]}]}}` + "\n", "hash of 2 digits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "empty line" {
				_, err := decodeManifest(strings.NewReader(tt.text), id)
				require.Error(t, err)
				return
			}
			requireCorrupt(t, []byte(tt.text), id, tt.want)
		})
	}
	t.Run("later layout", func(t *testing.T) {
		_, err := decodeManifest(strings.NewReader("{\"pgcairn_manifest\":3,\"sealed\":\"otherwise\"}\n"), id)
		var format *repo.FormatError
		require.ErrorAs(t, err, &format)
		require.Equal(t, repo.FormatError{Format: 3, Supported: 2}, *format)
	})
}

// rawJSON is JSON for repo.SealRecord.
type rawJSON string

func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }

func requireCorrupt(t *testing.T, text []byte, id ID, want string) {
	t.Helper()
	_, err := decodeManifest(bytes.NewReader(text), id)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, id.manifestKey(), corrupt.Key)
	require.ErrorContains(t, err, want)
}

// endless yields a text over and over.
type endless struct {
	text string
	at   int
	read int64
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k := copy(p[n:], e.text[e.at:])
		e.at = (e.at + k) % len(e.text)
		n += k
	}
	e.read += int64(n)
	return n, nil
}

// A small object can decompress to no end of text. What repeats itself is found out at once.
func TestManifestBombs(t *testing.T) {
	text, id := realManifest(t)
	head, _, _ := strings.Cut(string(text), "\n")
	for name, tt := range map[string]struct {
		text  string
		limit int64
	}{
		"one line without an end": {strings.Repeat("x", 100), maxLine + 1<<20},
		"nothing but newlines":    {"\n", 1 << 20},
		"labels":                  {`{"backup_label":"x"}` + "\n", 1 << 20},
		"maps":                    {`{"tablespace_map":"x"}` + "\n", 1 << 20},
		"control files":           {`{"pg_control":"AAAA"}` + "\n", 1 << 20},
		"directories":             {`{"directory":"a"}` + "\n", 1 << 20},
		"files":                   {`{"file":{"path":"a","size":1152921504606846976}}` + "\n", 1 << 20},
		"tablespaces":             {`{"tablespace":{"oid":1}}` + "\n", 1 << 20},
		"bad pages":               {`{"bad_page":{"path":"a"}}` + "\n", 1 << 20},
		"packs":                   {`{"pack":{"key":"a"}}` + "\n", 1 << 20},
		"pieces":                  {`{"pack":{"key":"a","frames":[` + strings.Repeat(`{},`, 10_000), maxLine + 1<<20},
	} {
		t.Run(name, func(t *testing.T) {
			e := &endless{text: tt.text}
			_, err := decodeManifest(io.MultiReader(strings.NewReader(head+"\n"), e), id)
			var corrupt *repo.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.Less(t, e.read, tt.limit)
		})
	}
}

// No line is written that could not be read again.
func TestManifestThatWouldNotBeReadAgain(t *testing.T) {
	text, id := realManifest(t)
	m, err := decodeManifest(bytes.NewReader(text), id)
	require.NoError(t, err)
	m.TablespaceMap = strings.Repeat("x", maxLine)
	_, err = m.Encode()
	require.ErrorContains(t, err, "can be read again")
	m.TablespaceMap = ""
	m.Labels = map[string]string{"a": strings.Repeat("x", maxHeadLine)}
	_, err = m.Encode()
	require.ErrorContains(t, err, "at most 65536")
}

// The longest line that Take may write is shorter than the longest that is read.
func TestLongestPackLine(t *testing.T) {
	p := PackPieces{}
	for range 8192 {
		p.Frames = append(p.Frames, repo.Frame{Raw: repo.FrameSize, Stored: 2 * repo.FrameSize, Codec: repo.CodecZstd})
		p.Pieces = append(p.Pieces, nil)
	}
	for range maxPackPieces + maxFramePieces {
		p.Pieces[0] = append(p.Pieces[0], Piece{File: maxEntries, Offset: maxFileSize, Length: repo.FrameSize})
	}
	m := Manifest{PackList: []PackPieces{p}}
	text, err := m.Encode()
	require.NoError(t, err)
	require.Less(t, len(text), maxLine*3/4)
}

func FuzzDecodeManifest(f *testing.F) {
	text, _ := realManifest(f)
	for _, text := range append(layout2(f), text) {
		f.Add(text)
		head, rest, _ := strings.Cut(string(text), "\n")
		for line := range strings.Lines(rest) {
			f.Add([]byte(head + "\n" + line))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		id := idOf(text)
		m, err := decodeManifest(bytes.NewReader(text), id)
		if err != nil {
			require.Nil(t, m)
			return
		}
		// What is sound can be written again, and is the same then.
		require.NoError(t, m.check())
		once, err := m.Encode()
		require.NoError(t, err)
		again, err := decodeManifest(bytes.NewReader(once), id)
		require.NoError(t, err)
		twice, err := again.Encode()
		require.NoError(t, err)
		require.Equal(t, string(once), string(twice))
	})
}

func FuzzDecodeHead(f *testing.F) {
	text, id := realManifest(f)
	head, _, _ := bytes.Cut(text, []byte("\n"))
	f.Add(string(head)+"\n", true)
	f.Add(string(head), false)
	f.Fuzz(func(t *testing.T, line string, seal bool) {
		if seal { // past the checksum
			line = strings.TrimRight(line, "\n")
			if i := strings.LastIndex(line, `,"sum":`); i >= 0 {
				line = line[:i] + "}"
			}
			if b, err := repo.SealRecord(id.manifestKey(), rawJSON(line)); err == nil {
				line = string(b)
			}
		}
		s, err := decodeHead(bufio.NewReader(strings.NewReader(line)), id)
		if err != nil {
			require.Nil(t, s)
			return
		}
		require.Equal(t, id, s.ID)
		require.NotZero(t, s.FirstSegment().Number+1)
		require.LessOrEqual(t, s.FirstSegment().Number, s.LastSegment().Number+1)
		_ = fmt.Sprint(s)
	})
}

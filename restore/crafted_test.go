package restore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// rewrite replaces an object by one with other content, as somebody could who may write to the store.
func (f *fake) rewrite(t *testing.T, key, text string) {
	t.Helper()
	require.NoError(t, f.store.Delete(t.Context(), key))
	label := func() ([]byte, error) {
		sum := sha256.Sum256([]byte(text))
		return sum[:], nil
	}
	_, err := f.repo.Put(t.Context(), key, &repo.PutOptions{Label: label}, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	require.NoError(t, err)
}

// craft replaces the backup's manifest by one that says something else.
func (f *fake) craft(t *testing.T, change func(m *backup.Manifest)) (key string) {
	t.Helper()
	m, err := backup.Load(t.Context(), f.repo, f.m.ID)
	require.NoError(t, err)
	key = "backups/" + string(m.ID)
	text := manifestText(t, key, m)
	obj, err := f.repo.OpenObject(t.Context(), key)
	require.NoError(t, err)
	want, err := io.ReadAll(obj)
	require.NoError(t, err)
	require.NoError(t, obj.Close())
	require.Equal(t, string(want), text, "the forger knows the format")
	change(m)
	m.Files = len(m.FileList)
	f.rewrite(t, key, manifestText(t, key, m))
	return key
}

// manifestText encodes a manifest as FORMAT.md describes it.
func manifestText(t *testing.T, key string, m *backup.Manifest) string {
	t.Helper()
	head, err := repo.SealRecord(key, struct {
		Version int `json:"pgcairn_manifest"`
		backup.Summary
	}{1, m.Summary})
	require.NoError(t, err)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	put := func(member string, v any) { require.NoError(t, enc.Encode(map[string]any{member: v})) }
	put("backup_label", m.Label)
	put("tablespace_map", m.TablespaceMap)
	put("pg_control", m.Control)
	for _, s := range m.Tablespaces {
		put("tablespace", s)
	}
	for _, d := range m.Directories {
		put("directory", d)
	}
	for _, f := range m.FileList {
		put("file", f)
	}
	type frame struct {
		repo.Frame
		Pieces []backup.Piece `json:"pieces"`
	}
	for _, p := range m.PackList {
		var frames []frame
		for i, f := range p.Frames {
			frames = append(frames, frame{f, p.Pieces[i]})
		}
		put("pack", struct {
			Key    string  `json:"key"`
			Size   int64   `json:"size"`
			Frames []frame `json:"frames"`
		}{p.Key, p.Size, frames})
	}
	put("end", struct {
		Tablespaces int `json:"tablespaces"`
		Directories int `json:"directories"`
		Files       int `json:"files"`
		BadPages    int `json:"bad_pages"`
		Packs       int `json:"packs"`
	}{len(m.Tablespaces), len(m.Directories), len(m.FileList), 0, len(m.PackList)})
	return string(head) + b.String()
}

// with adds an entry to a manifest, where it belongs in the order.
type with func(m *backup.Manifest)

func file(path string) with { return sized(path, 0) }

func sized(path string, size int64) with {
	return func(m *backup.Manifest) {
		i, _ := slices.BinarySearchFunc(m.FileList, path, func(f backup.File, p string) int { return strings.Compare(f.Path, p) })
		m.FileList = slices.Insert(m.FileList, i, backup.File{Path: path, Size: size})
		for _, p := range m.PackList {
			for _, pieces := range p.Pieces {
				for k := range pieces {
					if pieces[k].File >= i {
						pieces[k].File++
					}
				}
			}
		}
	}
}

func dir(path string) with {
	return func(m *backup.Manifest) {
		m.Directories = append(m.Directories, path)
		slices.Sort(m.Directories)
	}
}

func space(m *backup.Manifest) {
	m.Tablespaces = []backup.Tablespace{{OID: 16385, Name: "fast", Location: "/mnt/fast"}}
}

// Whatever a manifest says, nothing outside of the directories that the operator has named is touched.
func TestCraftedManifests(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		with   []with
		spaces bool
		fine   bool // it restores, within its directory
	}{
		{"parent", []with{file("../escape")}, false, false},
		{"parents", []with{file("../../../../../../../../tmp/escape")}, false, false},
		{"parent within", []with{file("a/../../escape")}, false, false},
		{"absolute", []with{file("/tmp/pgcairn-escape")}, false, false},
		{"dots at the end", []with{file("base/..")}, false, false},
		{"directory of the parent", []with{dir("../escape")}, false, false},
		{"absolute directory", []with{dir("/tmp/pgcairn-escape")}, false, false},
		{"backslashes", []with{file(`..\escape`)}, false, false},
		{"drive", []with{file(`C:\escape`)}, false, false},
		{"network path", []with{file(`\\host\share`)}, false, false},
		{"zero byte", []with{file("a\x00b")}, false, false},
		{"device by its path", []with{file("/dev/sda")}, false, false},
		{"names of devices elsewhere", []with{file("CON"), file("NUL"), file("dev/null"), file("C:/x")}, false, true},
		{"file below a file", []with{file("PG_VERSION/x")}, false, false},
		{"directory that is a file", []with{dir("PG_VERSION")}, false, false},
		{"WAL", []with{file("pg_wal/000000010000000000000001")}, false, false},
		{"pg_wal as a file", []with{file("pg_wal")}, false, false},
		{"pg_control", []with{file("global/pg_control")}, false, false},
		{"the mark", []with{file("pgcairn.restore")}, false, false},
		{"a signal file", []with{file("standby.signal")}, false, false},
		{"huge", []with{sized("huge", 1<<60)}, false, false},
		{"tablespace that is not mapped", []with{space}, false, false},
		{"tablespace", []with{space, file("pg_tblspc/16385/PG_18_1/5/1")}, true, true},
		{"parent of a tablespace", []with{space, file("pg_tblspc/16385/../../../escape")}, true, false},
		{"parent of a tablespace, at once", []with{space, file("pg_tblspc/16385/..")}, true, false},
		{"tablespace as a file", []with{space, file("pg_tblspc/16385")}, true, false},
		{"tablespace that is none, as a file", []with{file("pg_tblspc/16386")}, false, true},
		{"tablespace that is none", []with{space, file("pg_tblspc/16386/PG_18_1/5/1"), dir("pg_tblspc/16386")}, true, true},
		{"names like a tablespace", []with{space, file("pg_tblspc/016385/x"), file("pg_tblspc/16385x/x"), file("PG_TBLSPC/16385/x")}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, false, nil)
			p := f.plan(t)
			key := f.craft(t, func(m *backup.Manifest) {
				for _, add := range tt.with {
					add(m)
				}
			})
			around := t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(around, "in"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(around, "precious"), []byte("x"), 0o600))
			o := &restore.Options{}
			if tt.spaces {
				o.Tablespaces = map[string]string{"fast": filepath.Join(around, "in", "fast")}
			}
			was := tree(t, around)
			_, err := p.Run(t.Context(), f.repo, filepath.Join(around, "in", "data"), o)
			require.NoDirExists(t, "/tmp/pgcairn-escape")
			require.NoFileExists(t, "/tmp/escape")
			require.NoError(t, os.RemoveAll(filepath.Join(around, "in", "fast")))
			if tt.fine {
				require.NoError(t, err)
				require.NoError(t, os.RemoveAll(filepath.Join(around, "in", "data")))
				require.Equal(t, was, tree(t, around))
				return
			}
			require.Equal(t, was, tree(t, around), "it is refused before anything is made")
			if tt.name == "tablespace that is not mapped" {
				require.True(t, is[*restore.TablespaceError](err), "%v", err)
				return
			}
			var corrupt *repo.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.Equal(t, key, corrupt.Key)
			require.NotContains(t, err.Error(), "out of order")
		})
	}
}

// A directory that is made to look like one of an earlier restore gives no way out of it.
func TestCraftedDestination(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	around := t.TempDir()
	victim, dir, space := filepath.Join(around, "victim"), filepath.Join(around, "data"), filepath.Join(around, "space")
	for _, d := range []string{victim, dir} {
		require.NoError(t, os.Mkdir(d, 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(victim, "precious"), []byte("x"), 0o600))
	// Leftovers, which are cleared, with links in them, which are not followed.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pgcairn.restore"), []byte(`{"tablespaces":{"16385":"`+space+`","16386":"`+victim+`"}}`), 0o600))
	require.NoError(t, os.Symlink(victim, filepath.Join(dir, "base")))
	require.NoError(t, os.Symlink(victim, filepath.Join(dir, "global")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pg_tblspc"), 0o700))
	require.NoError(t, os.Symlink(victim, filepath.Join(dir, "pg_tblspc", "16385")))
	was := tree(t, victim)
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{Tablespaces: map[string]string{"fast": space}})
	require.Equal(t, was, tree(t, victim))
	if err == nil {
		require.NoError(t, f.c.Compare(dir))
	}
}

// A history is data: it can lead a plan astray, but no file.
func TestCraftedHistories(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"not a history":          "../../../../escape\n",
		"no parent":              "",
		"a parent after itself":  "7\t0/300000\tx\n",
		"its own parent":         "2\t0/300000\tx\n",
		"positions that descend": "1\t0/300000\tx\n1\t0/200000\tx\n",
		"endless":                strings.Repeat("1\t0/300000\tx\n", 100_000),
		"zero bytes":             string(make([]byte, 100)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, false, nil)
			f.c.Promote()
			f.c.Switch(1)
			require.NoError(t, f.archive(t))
			key := fmt.Sprintf("wal/%d/00000002.history", f.c.System().ID)
			f.rewrite(t, key, text)
			_, err := restore.Prepare(t.Context(), f.repo, restore.Latest(), nil)
			requireNoAnswer(t, err)
			require.ErrorContains(t, err, "history")
			require.False(t, is[*restore.UnreachableError](err), "%v", err)
		})
	}
	t.Run("of another name", func(t *testing.T) {
		t.Parallel()
		f := newFake(t, false, nil)
		f.c.Promote()
		f.c.Switch(1)
		require.NoError(t, f.archive(t))
		for _, name := range []string{"evil", "00000002.history.x", "0000000200000000/x"} {
			key := fmt.Sprintf("wal/%d/%s", f.c.System().ID, name)
			_, err := f.repo.Put(t.Context(), key, nil, func(w io.Writer) error {
				_, err := w.Write(bytes.Repeat([]byte("x"), 100))
				return err
			})
			require.NoError(t, err)
			_, err = restore.Prepare(t.Context(), f.repo, restore.Latest(), nil)
			require.NoError(t, err, "it is passed over, as what a later version may have written")
			require.NoError(t, f.store.Delete(t.Context(), key))
		}
	})
}

// A plan that somebody has changed on its way does not restore another cluster's backup.
func TestSystemOfAnotherCluster(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	p := f.plan(t)
	f.craft(t, func(m *backup.Manifest) { m.SystemID = 4711 })
	dir := newDir(t)
	_, err := p.Run(t.Context(), f.repo, dir, nil)
	require.ErrorContains(t, err, "4711")
	requireNoCluster(t, dir)
	_, err = restore.Prepare(t.Context(), f.repo, restore.Latest(), nil)
	require.True(t, is[*restore.UnreachableError](err), "%v", err)
}

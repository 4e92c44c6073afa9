package backup_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
)

// otherReader reads manifests and packs. It was written after the text of repo/FORMAT.md, and shares nothing with the
// code that it is to judge.
type otherReader struct {
	members []string // in their order
	seen    map[string]bool

	paths    []string // of files
	content  map[string][]byte
	rest     map[string]int64 // of data that no piece has been read for
	bad      []string
	notFiles int // pieces that are of no file
	unneeded int // frames
}

// lineMembers are the members of a manifest's lines, in their order, as FORMAT.md has them in its table.
func lineMembers(t *testing.T) (all []string) {
	t.Helper()
	format, err := os.ReadFile("../repo/FORMAT.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(format), "| member | value |\n|---|---|\n")
	require.True(t, ok)
	table, _, ok = strings.Cut(table, "\n\n")
	require.True(t, ok)
	for row := range strings.Lines(table) {
		cell, _, ok := strings.Cut(strings.TrimPrefix(row, "| "), " |")
		require.True(t, ok)
		for name := range strings.SplitSeq(cell, ", ") {
			all = append(all, strings.Trim(name, "`"))
		}
	}
	return all
}

// manifest reads a manifest, and the packs in a directory that it names.
func (r *otherReader) manifest(t *testing.T, text []byte, dir string) {
	t.Helper()
	r.paths, r.content, r.rest, r.bad = nil, map[string][]byte{}, map[string]int64{}, nil
	at := 0
	for line := range bytes.Lines(text[bytes.IndexByte(text, '\n')+1:]) {
		var l map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(line, &l))
		require.Len(t, l, 1)
		for member, value := range l {
			place := slices.Index(r.members, member)
			require.GreaterOrEqual(t, place, at, "%s is out of order", member)
			at, r.seen[member] = place, true
			switch member {
			case "file":
				var f struct {
					Path       string
					Size, Data int64
				}
				require.NoError(t, json.Unmarshal(value, &f))
				r.paths, r.content[f.Path], r.rest[f.Path] = append(r.paths, f.Path), make([]byte, f.Size), f.Data
			case "bad_page":
				r.bad = append(r.bad, string(value))
			case "pack":
				r.pack(t, value, dir)
			}
		}
	}
}

func (r *otherReader) pack(t *testing.T, line []byte, dir string) {
	t.Helper()
	var p struct {
		Key    string
		Frames []struct {
			Raw    int
			Pieces [][]int
		}
	}
	require.NoError(t, json.Unmarshal(line, &p))
	raw, err := exec.Command("zstd", "-dcq", filepath.Join(dir, filepath.FromSlash(p.Key))).Output()
	require.NoError(t, err)
	for _, f := range p.Frames {
		frame := raw[:f.Raw]
		raw = raw[f.Raw:]
		if f.Pieces == nil {
			r.unneeded++
			continue
		}
		for _, piece := range f.Pieces {
			length := piece[len(piece)-1]
			if len(piece) == 1 {
				r.notFiles++
			} else {
				require.Len(t, piece, 3)
				path := r.paths[piece[0]]
				r.rest[path] -= int64(copy(r.content[path][piece[1]:][:length], frame))
			}
			frame = frame[length:]
		}
		require.Empty(t, frame)
	}
	require.Empty(t, raw)
}

// What another reader makes of the golden files is the cluster, and they have all that the text tells of.
func TestFormatOfManifests(t *testing.T) {
	r := &otherReader{members: lineMembers(t), seen: map[string]bool{}}
	table, index := `{"path":"base/5/16384","block":1}`, `{"path":"base/5/16390","block":0}`
	bad := map[backup.Type][]string{backup.Full: {table, index}, backup.Differential: {index}, backup.Incremental: {index}}
	goldenStages(t, func(c *backuptest.Cluster, kind backup.Type) {
		text := goldenText(t, "plain", kind)
		require.True(t, bytes.HasPrefix(text, []byte(`{"pgcairn_manifest":2,`)))
		r.manifest(t, text, filepath.Join(goldenLayout, "plain"))
		require.Equal(t, c.Files(), r.paths)
		for _, path := range r.paths {
			want, err := c.Read(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, r.content[path]), path)
			require.Zero(t, r.rest[path], path)
		}
		require.Equal(t, bad[kind], r.bad)
		advance(t, c)
	})
	for _, member := range r.members {
		assert.True(t, r.seen[member], "no golden manifest has %s", member)
	}
	require.NotZero(t, r.notFiles)
	require.NotZero(t, r.unneeded)
}

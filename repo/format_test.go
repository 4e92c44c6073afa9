package repo_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/pgcairn/pgcairn/repo"
)

// block is a fenced block of FORMAT.md. What it is about stands behind the language:
//
//	```bytes FILE           a picture of all bytes of a file: offset, bytes, maybe what they are
//	```text FILE            its text
//	```lines FILE           its text, with ... for what is left out of it
//	```... FILE header      of the header of an age file
//	```... FILE stanza TYPE of the body of a stanza in it
//	```decrypted FILE       the file that has the same bytes as this one decrypted
//
// Files are named as seen from the root of the module.
type block struct {
	line    int
	kind    string // language
	file    string
	part    string // what follows
	content string
}

func formatBlocks(t *testing.T) (blocks []block) {
	t.Helper()
	b, err := os.ReadFile("FORMAT.md")
	require.NoError(t, err)
	var open *block
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		switch {
		case open != nil && line == "```\n":
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.content += line
		case strings.HasPrefix(line, "```"):
			info := strings.SplitN(strings.TrimSpace(strings.TrimPrefix(line, "```")), " ", 3)
			open = &block{line: n, kind: info[0]}
			if len(info) > 1 {
				open.file = info[1]
			}
			if len(info) > 2 {
				open.part = info[2]
			}
		}
	}
	require.Nil(t, open, "a fence is not closed")
	return blocks
}

// bytes returns the bytes that a block is about.
func (b block) bytes(t *testing.T) []byte {
	t.Helper()
	whole, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(b.file)))
	require.NoError(t, err, "FORMAT.md:%d", b.line)
	if b.part == "" {
		return whole
	}
	header, err := age.ExtractHeader(bytes.NewReader(whole))
	require.NoError(t, err)
	if b.part == "header" {
		require.True(t, bytes.HasPrefix(whole, header))
		return header
	}
	name, ok := strings.CutPrefix(b.part, "stanza ")
	require.True(t, ok, "FORMAT.md:%d", b.line)
	var found stanzaFinder
	_, err = age.DecryptHeader(header, &found)
	require.Error(t, err)
	require.Contains(t, found, name)
	return found[name]
}

// stanzaFinder is an identity that opens nothing and notes what there is.
type stanzaFinder map[string][]byte

func (f *stanzaFinder) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	*f = stanzaFinder{}
	for _, s := range stanzas {
		(*f)[s.Type] = s.Body
	}
	return nil, age.ErrIncorrectIdentity
}

var pictureLine = regexp.MustCompile(`^([0-9a-f]{2,})  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {2,}(\S.*))?$`)

// picture returns the bytes of a byte picture. Offsets have to be right, and so have texts and sums that it gives.
func (b block) picture(t *testing.T) []byte {
	t.Helper()
	var all []byte
	for i, line := range strings.Split(strings.TrimSuffix(b.content, "\n"), "\n") {
		where := "FORMAT.md:" + strconv.Itoa(b.line+i+1)
		m := pictureLine.FindStringSubmatch(line)
		require.NotNil(t, m, "%s: %q", where, line)
		offset, err := strconv.ParseInt(m[1], 16, 64)
		require.NoError(t, err)
		require.EqualValues(t, len(all), offset, where)
		part, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		require.NoError(t, err)
		if strings.HasPrefix(m[3], `"`) {
			text, err := strconv.Unquote(m[3])
			require.NoError(t, err, where)
			require.Equal(t, text, string(part), where)
		}
		if rest, ok := strings.CutPrefix(m[3], "XXH3 of bytes "); ok {
			from, to, ok := strings.Cut(rest, " to ")
			require.True(t, ok, where)
			first, err := strconv.ParseInt(from, 16, 64)
			require.NoError(t, err, where)
			last, err := strconv.ParseInt(to, 16, 64)
			require.NoError(t, err, where)
			require.EqualValues(t, len(all)-1, last, where)
			require.Equal(t, sumOf(all[first:]), part, where)
		}
		all = append(all, part...)
	}
	return all
}

// What FORMAT.md shows is what the golden files hold, and it shows each of them.
func TestFormatShowsTheGoldenFiles(t *testing.T) {
	shown := map[string]bool{}
	for _, b := range formatBlocks(t) {
		if b.file == "" {
			continue // a drawing, or commands
		}
		want := b.bytes(t)
		switch b.kind {
		case "bytes":
			require.Equal(t, want, b.picture(t), "FORMAT.md:%d", b.line)
		case "text":
			require.Equal(t, strings.TrimSuffix(string(want), "\n")+"\n", b.content, "FORMAT.md:%d", b.line)
		case "lines":
			require.Regexp(t, abridged(b.content), string(want), "FORMAT.md:%d", b.line)
		case "decrypted":
			same := block{line: b.line, file: strings.TrimSpace(b.content)}
			key, ok := strings.CutPrefix(b.file, "repo/"+goldenDir+"/encrypted/")
			require.True(t, ok)
			require.Equal(t, same.bytes(t), decrypted(t, golden(t, true), key), "FORMAT.md:%d", b.line)
		default:
			t.Errorf("FORMAT.md:%d: %s?", b.line, b.kind)
		}
		shown[b.file] = true
	}
	for _, encrypted := range []bool{false, true} {
		for key := range golden(t, encrypted) {
			assert.True(t, shown["repo/"+goldenDir+"/"+goldenName(encrypted)+"/"+key], "FORMAT.md does not show %s", key)
		}
	}
}

// abridged matches a text of which parts are left out.
func abridged(text string) *regexp.Regexp {
	parts := strings.Split(text, "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`\A` + strings.Join(parts, `(?s:.*)`) + `\z`)
}

// The rule of records, done by hand.
func TestFormatOfRecords(t *testing.T) {
	for key, b := range golden(t, false) {
		if !strings.HasPrefix(string(b), "{") {
			continue
		}
		body, rest, ok := bytes.Cut(b, []byte(`,"sum":"`))
		require.True(t, ok)
		sum := sumOf(append([]byte(key+"\n"), body...))
		assert.Equal(t, hex.EncodeToString(sum)+"\"}\n", string(rest), key)
	}
}

// The rule of objects, done by hand: craft was written after the text.
func TestFormatOfObjects(t *testing.T) {
	_, packs := makeGolden(t, false)
	objects := golden(t, false)
	frames := [][]byte{objects[goldenPack][0x47:0x62], objects[goldenPack][0x62:0x7c]}
	assert.Equal(t, objects[goldenStream], craft(goldenStream, goldenLabel, nil, frames...))
	for key, pack := range packs {
		whole := objects[key]
		var notes, stretches []byte
		switch key {
		case goldenParts:
			hashes := slices.Concat(stretch(goldenPartsFrames[0][:8192]), stretch(goldenPartsFrames[0][8192:]), stretch(goldenPartsFrames[1]))
			stretches = slices.Concat([]byte{0x53, 0x2a, 0x4d, 0x18, byte(len(hashes) + 16), 0, 0, 0}, hashes, sumOf(append([]byte(key+"\n"), hashes...)))
			notes = []byte{}
			whole = whole[:len(whole)-len(stretches)-8-16]
		case goldenNoted:
			frame := whole[0xce:0xe8]
			notes = slices.Concat(frame, sumOf(append([]byte(key+"\n"), frame...)), []byte{byte(len(frame)), 0, 0, 0}, []byte("note"))
			whole = whole[:len(whole)-8-len(notes)-16]
		}
		frames := whole[0x47:]
		frames = frames[:len(frames)-8-25*len(pack.Frames)-16]
		crafted := craft(key, "", tableOf(pack), frames)
		if notes != nil {
			clear(crafted[len(crafted)-16:])
			crafted = append(crafted, stretches...)
			crafted = append(crafted, 0x52, 0x2a, 0x4d, 0x18, byte(len(notes)+16), 0, 0, 0)
			crafted = append(crafted, notes...)
			crafted = append(crafted, sumOf(crafted)...)
		}
		assert.Equal(t, objects[key], crafted, key)
	}
}

func stretch(b []byte) []byte { return binary.BigEndian.AppendUint64(nil, xxh3.Hash(b)) }

// The commands of FORMAT.md do what it says.
func TestFormatByHand(t *testing.T) {
	var commands string
	for _, b := range formatBlocks(t) {
		if b.kind == "sh" {
			commands += b.content
		}
	}
	require.NotEmpty(t, commands)
	dir := t.TempDir()
	identity := filepath.Join(dir, "identity.txt")
	require.NoError(t, os.WriteFile(identity, []byte(testIdentity+"\n"), 0o600))
	for _, object := range []string{goldenStream, goldenPack} {
		content := filepath.Join(dir, "content")
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", commands)
		cmd.Dir = filepath.Join(goldenDir, "encrypted")
		cmd.Env = append(os.Environ(), "IDENTITY="+identity, "OBJECT="+object, "DATA_KEY="+filepath.Join(dir, "data.key"), "CONTENT="+content)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		got, err := os.ReadFile(content)
		require.NoError(t, err)
		assert.Equal(t, string(bytes.Join(goldenFrames, nil)), string(got))

		cmd = exec.Command("zstd", "-d")
		cmd.Stdin = bytes.NewReader(golden(t, false)[object])
		got, err = cmd.Output()
		require.NoError(t, err)
		assert.Equal(t, string(bytes.Join(goldenFrames, nil)), string(got), "unencrypted")
	}
	for _, object := range []string{goldenRaw, goldenNoted} {
		got, err := unzstd(golden(t, false)[object])
		require.NoError(t, err)
		assert.Equal(t, string(bytes.Join(goldenFrames, nil)), string(got), object)
	}
}

// So do those for S2, with the stock program; stock zstd says that it is not for it.
func TestFormatByHandS2(t *testing.T) {
	var commands string
	for _, b := range formatBlocks(t) {
		if b.kind == "bash" {
			commands += b.content
		}
	}
	require.NotEmpty(t, commands)
	dir := t.TempDir()
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "s2d"), "github.com/klauspost/compress/s2/cmd/s2d").CombinedOutput()
	require.NoError(t, err, string(out))

	// The golden pack, and one of whole frames.
	g := newRig(t, false)
	frames := [][]byte{pages(repo.FrameSize), noise(repo.FrameSize, 1), pages(100), noise(10, 1)}
	_, err = writePackOf(t.Context(), g.w, "large", repo.S2, frames...)
	require.NoError(t, err)
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, storedBytes(t, g.store, "large"), 0o600))
	for pack, frames := range map[string][][]byte{filepath.Join(goldenDir, "plain", goldenS2): goldenS2Frames, large: frames} {
		content := filepath.Join(dir, "content")
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", commands)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "PACK="+pack, "CONTENT="+content)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		got, err := os.ReadFile(content)
		require.NoError(t, err)
		require.True(t, bytes.Equal(bytes.Join(frames, nil), got))

		b, err := os.ReadFile(pack)
		require.NoError(t, err)
		_, err = unzstd(b)
		require.Error(t, err)
	}
}

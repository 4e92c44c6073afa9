package house

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each test here makes a small house with the same rooms, and runs the linter, with the project's settings, in it.

func TestLinterRefusesReversedArrows(t *testing.T) {
	t.Parallel()
	reversed := map[string][]string{
		"repo":             {"wal", "crypto"},
		"repo/repotest":    {"wal"},
		"wal":              {"backup", "internal/pgtest", "gocloud.dev/blob/s3blob"},
		"backup":           {"restore", "github.com/stretchr/testify"},
		"restore":          {"retention"},
		"internal/durable": {"github.com/aws/sdk", "repo/repotest"},
	}
	out, code := lint(t, house(reversed, "x.go"))
	assert.NotZero(t, code, out)
	assertReported(t, reversed, out)

	again := map[string][]string{"retention": {"restore"}, "crypto": {"repo"}} // with those above it would be a cycle
	out, code = lint(t, house(again, "x.go"))
	assert.NotZero(t, code, out)
	assertReported(t, again, out)
}

func TestLinterAcceptsTheArrowsAsDrawn(t *testing.T) {
	t.Parallel()
	files := house(map[string][]string{
		"crypto":             {"filippo.io/age"},
		"repo":               {"internal/durable"},
		"repo/repotest":      {"repo", "github.com/stretchr/testify", "testing"},
		"wal":                {"repo", "internal/durable"},
		"backup":             {"wal", "repo"},
		"backup/backuptest":  {"backup", "repo/repotest"},
		"restore":            {"backup", "wal", "repo"},
		"restore/drill":      {"restore", "backup"},
		"restore/salvage":    {"restore", "restore/drill"},
		"retention":          {"backup", "wal", "repo"},
		"examples/something": {"gocloud.dev/blob/s3blob", "retention", "restore"},
	}, "x.go")
	for name, text := range house(map[string][]string{
		"restore": {"github.com/stretchr/testify", "internal/pgtest", "repo/repotest"},
	}, "x_test.go") {
		files[name] = text
	}
	out, code := lint(t, files)
	assert.Zero(t, code, out)
}

func TestLinterRefusesWhatLibraryCodeNeverDoes(t *testing.T) {
	t.Parallel()
	const code = `package wal

import (
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"
)

var counter = 1

func init() {
	counter++
	_ = time.Now()
	_ = time.Since(time.Time{})
	fmt.Println()
	log.Print("x")
	slog.Default().Info("x")
	slog.Info("x")
	os.Exit(1)
}
`
	files := house(nil, "x.go")
	files["wal/bad.go"] = code
	files["wal/fine_test.go"] = strings.NewReplacer("func init()", "func TestX()", "counter", "count").Replace(code)
	out, exit := lint(t, files)
	assert.NotZero(t, exit, out)
	for _, what := range []string{
		"counter is a global variable", "`init` function", "fmt.Println", "time.Now", "time.Since", "log.Print",
		"slog.Default", "slog.Info", "os.Exit",
	} {
		assert.Regexp(t, `wal/bad\.go:.*`+what, out)
	}
	assert.NotContains(t, out, "fine_test.go")
}

// house returns the files of a module in which every room holds one file of the given name, which imports the given
// packages: those without a dot in their name are rooms of the house.
func house(imports map[string][]string, file string) map[string]string {
	files := make(map[string]string)
	rooms := []string{
		"crypto", "repo", "repo/repotest", "wal", "backup", "backup/backuptest", "restore", "restore/drill", "restore/salvage", "retention",
		"internal/durable", "internal/pgtest", "examples/something",
	}
	for _, room := range rooms {
		var text strings.Builder
		fmt.Fprintf(&text, "// Package %[1]s is here for a test.\npackage %[1]s\n", filepath.Base(room))
		if len(imports[room]) > 0 {
			text.WriteString("\nimport (\n")
			for _, path := range imports[room] {
				if !strings.Contains(path, ".") && path != "testing" {
					path = module + "/" + path
				}
				fmt.Fprintf(&text, "\t_ %q // for a test\n", path)
			}
			text.WriteString(")\n")
		}
		files[room+"/"+file] = text.String()
	}
	return files
}

// lint writes the files as a module of the project's name, runs the linters that keep the house in it, and returns what
// they print and the exit code. Packages from elsewhere are empty ones.
func lint(t *testing.T, files map[string]string) (out string, code int) {
	t.Helper()
	linter, err := filepath.Abs(filepath.Join(root, ".tools", "golangci-lint"))
	require.NoError(t, err)
	require.FileExists(t, linter, "run make tools")
	settings, err := os.ReadFile(filepath.Join(root, ".golangci.yml"))
	require.NoError(t, err)

	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	mod := "module " + module + "\n\ngo 1.26\n"
	for path, pkg := range map[string]string{
		"filippo.io/age": ".", "github.com/stretchr/testify": ".", "github.com/aws/sdk": ".", "gocloud.dev": "blob/s3blob",
	} {
		mod += fmt.Sprintf("require %[1]s v1.0.0\nreplace %[1]s => ./elsewhere/%[1]s\n", path)
		write("elsewhere/"+path+"/go.mod", "module "+path+"\n\ngo 1.26\n")
		write("elsewhere/"+path+"/"+pkg+"/x.go", "package "+filepath.Base(filepath.Join(path, pkg))+"\n")
	}
	write("go.mod", mod)
	write(".golangci.yml", string(settings))
	for name, text := range files {
		write(name, text)
	}
	cmd := exec.CommandContext(t.Context(), linter, "run", "--allow-parallel-runners",
		"--enable-only=depguard,forbidigo,gochecknoglobals,gochecknoinits", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// assertReported asserts that the linter has refused each import, and found nothing wrong with the houses themselves.
func assertReported(t *testing.T, imports map[string][]string, out string) {
	t.Helper()
	assert.NotContains(t, out, "typecheck")
	for room, paths := range imports {
		for _, path := range paths {
			if !strings.Contains(path, ".") {
				path = module + "/" + path
			}
			assert.Regexp(t, fmt.Sprintf(`(?m)^%s/x\.go:\d+:\d+: import '%s' is not allowed`, room, path), out)
		}
	}
}

package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/pgcairn/pgcairn"

// root is the top of the checkout, seen from this package.
var root = filepath.Join("..", "..")

// pkg is a package as "go list -json" describes it, without its tests.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string // all that it imports, directly or not
}

// name is the import path within the module, "." for its root.
func (p pkg) name() string { return within(p.ImportPath) }

// workshop reports whether the package serves the making of pgcairn: it may import what it likes.
func (p pkg) workshop() bool {
	for _, prefix := range []string{"internal/pgtest", "internal/house", "internal/bench"} {
		if p.name() == prefix || strings.HasPrefix(p.name(), prefix+"/") {
			return true
		}
	}
	return false
}

// library reports whether programs that embed pgcairn run the package; their tests may use repotest and its like.
func (p pkg) library() bool { return !p.workshop() && !strings.HasSuffix(p.name(), "test") }

// within strips the module's path.
func within(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// ours reports whether an import path belongs to the module.
func ours(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// packages lists the packages of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			require.NotEmpty(t, all)
			return all
		} else if err != nil {
			require.NoError(t, err)
		}
		all = append(all, p)
	}
}

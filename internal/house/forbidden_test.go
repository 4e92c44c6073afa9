package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clockFile is the one file of the library that may read the clock, as the default of Options.Now.
const clockFile = "repo/clock.go"

// forbidden lists, by package, the functions that library code does not call; "*" stands for all.
var forbidden = map[string][]string{
	"os":       {"Exit"},
	"log":      {"*"},
	"fmt":      {"Print", "Printf", "Println"},
	"time":     {"Now", "Since", "Until"},
	"log/slog": {"Default", "SetDefault", "Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext", "Error", "ErrorContext", "Log", "LogAttrs", "With"},
}

func TestLibraryNeitherExitsNorPrintsNorReadsTheClock(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !p.library() {
			continue
		}
		for _, file := range p.GoFiles {
			for _, finding := range findings(t, filepath.Join(p.Dir, file), nil) {
				if filepath.ToSlash(filepath.Join(p.name(), file)) == clockFile && finding.what == "time.Now" {
					continue
				}
				assert.Fail(t, "forbidden in library code", "%s: %s", finding.at, finding.what)
			}
		}
	}
}

func TestFindingsFindsEverything(t *testing.T) {
	t.Parallel()
	const src = `package p
import ("fmt"; l "log"; "log/slog"; "os"; "time")
func init() { os.Exit(1); l.Fatal(); fmt.Println(); fmt.Sprint(); slog.Default(); _ = time.Now }
func f(fmt interface{ Print() }, t T) { t.Now(); slog.New(nil); println() }
`
	var what []string
	for _, f := range findings(t, "p.go", src) {
		what = append(what, f.what)
	}
	assert.Equal(t, []string{"func init", "os.Exit", "log.Fatal", "fmt.Println", "log/slog.Default", "time.Now", "println"}, what)
}

// finding is a forbidden thing and where it stands.
type finding struct{ at, what string }

// findings parses a file (or src, unless nil) and returns what is forbidden in it, in order.
func findings(t *testing.T, path string, src any) []finding {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, src, parser.SkipObjectResolution)
	require.NoError(t, err)
	imports := make(map[string]string) // local name -> path
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		name := filepath.Base(path)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = path
	}
	var found []finding
	add := func(n ast.Node, format string, args ...any) {
		found = append(found, finding{set.Position(n.Pos()).String(), fmt.Sprintf(format, args...)})
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				add(n, "func init")
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
				add(n, "%s", f.Name)
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			path := imports[x.Name]
			if names := forbidden[path]; slices.Contains(names, n.Sel.Name) || slices.Contains(names, "*") {
				add(n, "%s.%s", path, n.Sel.Name)
			}
		}
		return true
	})
	return found
}

package pgtest

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// lockFile pins the servers. Its hash names the directory in which internal/tools/install.sh puts them.
//
//go:embed servers/package-lock.json
var lockFile []byte

// distroBins is where Debian's packages keep the programs of one major version.
const distroBins = "/usr/lib/postgresql/*/bin"

// DistroMajor returns the major version of the PostgreSQL that the distribution has, the newest where it has several.
func DistroMajor(t testing.TB) int {
	t.Helper()
	dirs, _ := filepath.Glob(distroBins) // fails only for a bad pattern
	newest := 0
	for _, dir := range dirs {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && major > newest && isProgram(filepath.Join(dir, "pg_verifybackup")) {
			newest = major
		}
	}
	if newest == 0 {
		t.Fatalf("pgtest: no PostgreSQL with pg_verifybackup in %s: run make tools", distroBins)
	}
	return newest
}

// DistroBin returns the path of one of the distribution's programs, such as pg_waldump.
func DistroBin(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(strings.Replace(distroBins, "*", strconv.Itoa(DistroMajor(t)), 1), name)
	if !isProgram(path) {
		t.Fatalf("pgtest: no program %s: run make tools", path)
	}
	return path
}

// BinDir returns the directory of the pinned server of one major version: initdb, pg_ctl and postgres.
func BinDir(t testing.TB, major int) string {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatalf("pgtest: no cache directory: %v", err)
	}
	servers := fmt.Sprintf("servers-%x", sha256.Sum256(lockFile))[:len("servers-")+16]
	dir := filepath.Join(cache, servers, "node_modules", fmt.Sprintf("pg%d", major), "native", "bin")
	if !isProgram(filepath.Join(dir, "postgres")) {
		t.Fatalf("pgtest: no PostgreSQL %d in %s: run make tools", major, dir)
	}
	return dir
}

// Bin returns the path of a program of the cluster's own version or, where its package does not bring it, of the
// distribution's version.
func (c *Cluster) Bin(t testing.TB, name string) string {
	t.Helper()
	if path := filepath.Join(c.bin, name); isProgram(path) {
		return path
	}
	return DistroBin(t, name)
}

// cacheDir is the directory that internal/tools/install.sh calls by the same name.
func cacheDir() (string, error) {
	if os.Getuid() == 0 {
		return "/var/cache/pgcairn", nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "pgcairn"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".cache", "pgcairn"), err
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// findBinaries returns the directory of the programs of a major version: the given one, or the first where they are, and
// what postgres says of its version.
func findBinaries(ctx context.Context, given string, major int, need []string) (dir, version string, err error) {
	missing := &BinaryError{Major: major}
	for _, dir := range candidates(ctx, given, major) {
		found, version, err := versionOf(ctx, filepath.Join(dir, "postgres"))
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
		if err == nil && found != major {
			err = fmt.Errorf("PostgreSQL %s", version)
		}
		for _, name := range need {
			if _, lookErr := exec.LookPath(filepath.Join(dir, name)); err == nil && lookErr != nil {
				err = fmt.Errorf("no %s", name)
			}
		}
		if err == nil {
			return dir, version, nil
		}
		missing.Looked = append(missing.Looked, "in "+dir+" "+err.Error())
	}
	if missing.Looked == nil {
		missing.Looked = []string{"no postgres in PATH, and none where packages have it"}
	}
	return "", "", missing
}

// candidates are the directories where programs may be: where the shell finds them, and where the packages of Debian and
// of PostgreSQL's own repositories put them.
func candidates(ctx context.Context, given string, major int) []string {
	if given != "" {
		if abs, err := filepath.Abs(given); err == nil {
			given = abs
		}
		return []string{given}
	}
	var all []string
	add := func(postgres string) {
		// A link to it, in /usr/bin for one, has no other programs beside it.
		if path, err := filepath.EvalSymlinks(postgres); err == nil && !slices.Contains(all, filepath.Dir(path)) {
			all = append(all, filepath.Dir(path))
		}
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if abs, err := filepath.Abs(path); err == nil {
			add(abs)
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		add(filepath.Join(strings.TrimSpace(string(out)), "postgres"))
	}
	add(fmt.Sprintf("/usr/lib/postgresql/%d/bin/postgres", major))
	add(fmt.Sprintf("/usr/pgsql-%d/bin/postgres", major))
	return all
}

// versionOf asks postgres for its version.
func versionOf(ctx context.Context, postgres string) (major int, version string, err error) {
	cmd := exec.CommandContext(ctx, postgres, "-V")
	cmd.Dir, cmd.Env = "/", environment(nil)
	out, err := cmd.Output()
	if errors.Is(err, os.ErrNotExist) {
		return 0, "", errors.New("no postgres")
	}
	if err != nil {
		return 0, "", fmt.Errorf("no postgres that runs: %w", err)
	}
	// postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1); 18beta1 before a release.
	_, version, _ = strings.Cut(strings.TrimSpace(string(out)), "(PostgreSQL) ")
	version, _, _ = strings.Cut(version, " ")
	digits := version
	if end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = version[:end]
	}
	if major, err = strconv.Atoi(digits); err != nil {
		return 0, "", fmt.Errorf("a postgres that calls itself %q", strings.TrimSpace(string(out)))
	}
	return major, version, nil
}

// environment is that of the server: enough to find its libraries and programs, in the language that its log is read in,
// and no secrets of the caller's.
func environment(more []string) []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, more...)
}

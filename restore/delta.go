package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// controlOld is where the pg_control of a data directory goes when a restore begins on it. There is no way back.
const controlOld = pgfile.ControlPath + ".old"

// admit decides whether the data directory, and with it those that it links to, can be used. It changes nothing.
func (d *destination) admit(o *Options) error {
	old, err := d.readMark()
	if err != nil {
		return err
	}
	links := map[string][]string{} // where those of the data directory lead to, or have led to
	switch empty := requireEmpty(d.root, d.path); {
	case old != nil:
		d.reuse, d.mark.SystemID, links = true, old.SystemID, old.all()
		d.mark.remember(links)
		if old.SystemID != 0 {
			if err := d.admitCluster(old.SystemID, "was the data directory of another cluster", o); err != nil {
				return err
			}
		}
	case empty == nil:
	case !o.Delta:
		return empty
	default:
		d.reuse = true
		if d.mark.SystemID, err = d.cluster(o); err != nil {
			return err
		}
		links = d.linksThere()
	}
	if d.reuse {
		if err := requireOurs(d.root, d.path); err != nil {
			return err
		}
	}
	for link, location := range d.mark.links() {
		if d.outside[link], err = d.open(location); err != nil {
			return err
		}
		if o.Overwrite || slices.ContainsFunc(links[link], func(place string) bool { return sameDirectory(place, location) }) {
			d.reuse = true
			if err := requireOurs(d.outside[link], location); err != nil { // it may be another data directory
				return err
			}
			continue
		}
		if err := requireEmpty(d.outside[link], location); err != nil {
			return err
		}
	}
	return nil
}

// requireOurs makes sure that nobody needs what is in a directory.
func requireOurs(root *os.Root, dir string) error {
	if err := requireStopped(root, dir); err != nil {
		return err
	}
	return requireNoRepository(root, dir)
}

// cluster returns the system identifier of the cluster that the data directory is of, which must be the backup's unless
// the options say otherwise; then it may be 0.
func (d *destination) cluster(o *Options) (uint64, error) {
	_, versionErr := d.root.Lstat("PG_VERSION")
	control, _, err := pgfile.ReadControlBy(func() ([]byte, error) { return d.readFile(pgfile.ControlPath, 1<<20) })
	switch {
	case errors.Is(versionErr, fs.ErrNotExist), errors.Is(err, fs.ErrNotExist):
		return 0, d.admitCluster(0, "is not empty and no data directory: it lacks PG_VERSION or "+pgfile.ControlPath, o)
	case err != nil:
		return 0, d.admitCluster(0, "does not tell which cluster it is of ("+err.Error()+")", o)
	case versionErr != nil:
		return 0, fmt.Errorf("restore: %w", versionErr)
	}
	return control.SystemID, d.admitCluster(control.SystemID, "is the data directory of another cluster", o)
}

func (d *destination) admitCluster(id uint64, reason string, o *Options) error {
	if id == d.manifest.SystemID || o.Overwrite {
		return nil
	}
	if id != 0 {
		reason += fmt.Sprintf(" (system identifier %d, the backup's is %d)", id, d.manifest.SystemID)
	}
	return &ForeignError{Directory: d.path, SystemID: id, Backup: d.manifest.SystemID, Reason: reason}
}

// linksThere returns where the links of the data directory lead to, by their paths: what is there belongs to it.
func (d *destination) linksThere() map[string][]string {
	links := map[string][]string{}
	for link := range d.mark.links() {
		if target, err := d.root.Readlink(link); err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join(d.path, filepath.Dir(filepath.FromSlash(link)), target)
			}
			links[link] = []string{target}
		}
	}
	return links
}

// sameDirectory tells whether two paths, the first of which may be empty, are of one directory.
func sameDirectory(a, b string) bool {
	if a == b || a == "" {
		return a == b
	}
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

// takeControl takes pg_control away, so that what is going to be half-done can never be started. A server that began to
// start meanwhile has its lock file there by now, or will not find pg_control.
func (d *destination) takeControl() error {
	info, err := d.root.Lstat("global")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if !info.IsDir() { // a link, maybe, to where it is
		return d.takeGlobal()
	}
	if err := d.root.RemoveAll(controlOld); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	err = d.root.Rename(pgfile.ControlPath, controlOld)
	taken := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore: %w", err)
	}
	if err := requireStopped(d.root, d.path); err != nil {
		if taken {
			err = errors.Join(err, d.root.Rename(controlOld, pgfile.ControlPath), d.root.Remove(markFile))
		}
		return err
	}
	if err := d.root.Remove(controlTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore: %w", err)
	}
	return d.sync("global")
}

// takeGlobal is takeControl where global is no directory.
func (d *destination) takeGlobal() error {
	const aside = "global.old"
	if err := d.root.RemoveAll(aside); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := d.root.Rename("global", aside); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := requireStopped(d.root, d.path); err != nil {
		return errors.Join(err, d.root.Rename(aside, "global"), d.root.Remove(markFile))
	}
	if err := d.root.Remove(aside); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return d.sync(".")
}

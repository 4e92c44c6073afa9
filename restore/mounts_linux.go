package restore

import (
	"os"
	"strings"
)

// mountPoints returns the places where something is mounted, as absolute paths without links. It reads mountinfo, see
// proc(5): a directory can be mounted elsewhere on its own file system, which its device does not tell.
func mountPoints() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if os.IsNotExist(err) { // there is no /proc
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var points []string
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 {
			points = append(points, unescape.Replace(f[4]))
		}
	}
	return points, nil
}

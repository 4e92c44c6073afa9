package restore

import "strings"

// Command returns the beginning of a restore_command that runs a program with arguments: quoted for the shell that
// PostgreSQL has it run by, and with each % doubled, which PostgreSQL would replace. To it the caller appends what is
// to be replaced:
//
//	o.RestoreCommand = restore.Command("/usr/bin/tool", "--repo", dir, "fetch") + " %f %p"
func Command(argv ...string) string {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = "'" + strings.NewReplacer("'", `'\''`, "%", "%%").Replace(a) + "'"
	}
	return strings.Join(quoted, " ")
}

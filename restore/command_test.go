package restore_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

func TestCommandIsReadBackByAShell(t *testing.T) {
	t.Parallel()
	args := []string{"printf", `%s\n`, "plain", "two words", `it's "quoted"`, `$HOME \ *`, "%p and %f, 100%", "", "a\nb"}
	command := restore.Command(args...)
	require.NotRegexp(t, `(^|[^%])(%%)*%[^%]`, command, "PostgreSQL would replace it")
	// PostgreSQL replaces %% by %, and has a shell run the rest.
	out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(command, "%%", "%")).Output()
	require.NoError(t, err)
	require.Equal(t, strings.Join(args[2:], "\n")+"\n", string(out))
}

package process_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/process"
)

func TestGoneOnlyWhenCertain(t *testing.T) {
	self := process.Self()
	require.Equal(t, os.Getpid(), self.PID)
	for name, change := range map[string]func(*process.ID){
		"this process":             func(*process.ID) {},
		"another host or boot":     func(id *process.ID) { id.Host, id.Start = "elsewhere", "1" },
		"an unknown host":          func(id *process.ID) { id.Host, id.Start = "", "1" },
		"an unknown start":         func(id *process.ID) { id.Start = "" },
		"no process, on this host": func(id *process.ID) { id.PID, id.Start = 0, "1" },
		"a group of processes":     func(id *process.ID) { id.PID, id.Start = -1, "1" },
	} {
		id := self
		change(&id)
		require.False(t, process.Gone(id), name)
	}
	require.False(t, process.Gone(process.ID{}))
}

func TestIDKeepsItsMeaningInJSON(t *testing.T) {
	want := process.Self()
	b, err := json.Marshal(want)
	require.NoError(t, err)
	var got process.ID
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, want, got)
}

package pgfile_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

const label = `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2026-01-02 03:04:05 UTC
LABEL: a label: with a colon
START TIMELINE: 7
`

func TestParseLabel(t *testing.T) {
	want := pgfile.Label{
		StartLSN: "0/2000028", StartSegment: "000000010000000000000002", Checkpoint: "0/2000060", From: "standby", Timeline: 7,
	}
	got, err := pgfile.ParseLabel(label)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestParseLabelRefuses(t *testing.T) {
	for _, text := range []string{
		"",
		"LABEL: x\n",
		"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n",
		"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIMELINE: 1\n",
		"CHECKPOINT LOCATION: 0/2000060\nSTART TIMELINE: 1\n",
		label + "START TIMELINE: 0\n",
		label + "START TIMELINE: x\n",
		label + "START TIMELINE: -1\n",
		label + "START TIMELINE: 4294967296\n",
	} {
		_, err := pgfile.ParseLabel(text)
		require.Error(t, err, "%q", text)
	}
}

package main

import "context"

// sql reads the cluster over connections to its server, beside reading its directory.
func (b *bench) sql(ctx context.Context) error {
	var cs []*contender
	for _, source := range []string{"sql", "dir"} {
		args := []string{"backup", "--type", "full", "--source", source}
		if source == "dir" {
			args = append(args, "--pgdata", b.path("data"))
		}
		cs = append(cs, &contender{
			name:    "pgcairn --source " + source,
			prepare: func(int) error { return remove(b.path("plain", "backups"), b.path("plain", "packs")) },
			command: func(int) []string { return append([]string{b.cairn}, b.ours("plain", args...)...) },
		})
	}
	return b.race(ctx, "full backup by SQL", b.runs, cs...)
}

// replication takes what the server sends by BASE_BACKUP, beside a client that stores nothing.
func (b *bench) replication(ctx context.Context) error {
	return b.race(ctx, "full backup by replication", b.runs,
		&contender{
			name:    "pgcairn --source replication",
			prepare: func(int) error { return remove(b.path("plain", "backups"), b.path("plain", "packs")) },
			command: func(int) []string {
				return append([]string{b.cairn}, b.ours("plain", "backup", "--type", "full", "--jobs", "2", "--source", "replication")...)
			},
		},
		&contender{name: "pg_basebackup, zstd -1 -T2", command: func(int) []string {
			return []string{"sh", "-c", b.pg("pg_basebackup") + " --checkpoint=fast -Ft -X none -D - | zstd -q -1 -T2 >/dev/null"}
		}},
	)
}

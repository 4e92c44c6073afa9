package main

import "time"

// commandLine is the grammar of the command line.
type commandLine struct {
	Common common `embed:""`

	Init    initCommand    `cmd:"" help:"Create the repository; again: no change."`
	Check   checkCommand   `cmd:"" help:"Prove the road end to end: connect, write, read, delete a probe, archive a forced WAL switch."`
	Backup  backupCommand  `cmd:"" help:"Take a backup."`
	List    listCommand    `cmd:"" help:"List backups, oldest first."`
	Show    showCommand    `cmd:"" help:"Show a backup."`
	Windows windowsCommand `cmd:"" help:"Say what can be recovered, with holes named."`
	WAL     walCommand     `cmd:"" name:"wal" help:"Archive WAL and bring it back."`
	Plan    planCommand    `cmd:"" help:"Say how a target would be recovered, and touch nothing."`
	Restore restoreCommand `cmd:"" help:"Restore a backup, ready to be recovered to a target."`
	Drill   drillCommand   `cmd:"" help:"Prove that a recovery would work: restore to a scratch directory, boot, query, clean up."`
	Verify  verifyCommand  `cmd:"" help:"Make sure that what the repository holds can be restored, and tell what cannot."`
	Salvage salvageCommand `cmd:"" help:"Bring single tables back, as an archive for pg_restore, without the rest."`
	Expire  expireCommand  `cmd:"" help:"Delete the backups and the WAL that a policy does not keep."`
	Pin     pinCommand     `cmd:"" help:"Keep a backup, whatever policies say, with as much WAL as they keep for backups of its age."`
	Unpin   unpinCommand   `cmd:"" help:"Let policies decide on a backup again."`
	Status  statusCommand  `cmd:"" help:"Say how the repository is, and fail when something is wrong: a gate for CI and cron."`
	Copy    copyCommand    `cmd:"" help:"Copy backups and WAL to another repository; again: what has come since."`
	Key     keyCommand     `cmd:"" help:"Make encryption keys."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// common are the flags of every command.
type common struct {
	Repo       []string      `env:"PGCAIRN_REPO" sep:"none" placeholder:"URL" help:"Repository: a path or a file://, s3://, gs:// or azblob:// URL. Repeatable: backup, wal push, wal fetch and wal heal use all, those that only read the first that opens; all else takes one. PGCAIRN_REPOS has several, with spaces between."`
	Repos      string        `hidden:"" help:"Repositories, with spaces between them: PGCAIRN_REPOS, where no --repo is given."`
	Recipients []string      `name:"recipient" env:"PGCAIRN_RECIPIENTS" sep:"none" placeholder:"R" help:"Age recipient to encrypt to; repeatable."`
	Identities []string      `name:"identity" env:"PGCAIRN_IDENTITY" sep:"none" placeholder:"FILE" help:"Age identity file, to read what is encrypted; repeatable."`
	StateDir   string        `placeholder:"DIR" help:"Cache of this host. Default: in the user's cache directory."`
	RetryFor   time.Duration `default:"2m" placeholder:"D" help:"For how long a bucket's service that fails, or does not answer, is asked again; 0s: not at all."`
	JSON       bool          `name:"json" help:"Print one JSON document."`
	Progress   string        `enum:"auto,bar,plain,none" default:"auto" help:"Progress on stderr: ${enum}."`
	LogLevel   string        `enum:"debug,info,warn,error" default:"warn" help:"Log on stderr: ${enum}."`
}

// walCommand are the commands on the WAL archive.
type walCommand struct {
	Push    walPushCommand    `cmd:"" help:"Archive a segment: archive_command = 'pgcairn wal push %p'."`
	Fetch   walFetchCommand   `cmd:"" help:"Bring a segment back: restore_command = 'pgcairn wal fetch %f %p'."`
	List    walListCommand    `cmd:"" help:"List segments per timeline, with gaps."`
	Receive walReceiveCommand `cmd:"" help:"Archive by streaming replication, until a signal."`
	Heal    walHealCommand    `cmd:"" help:"Bring to each of several repositories the WAL that it lacks and another has."`
	Serve   walServeCommand   `cmd:"" help:"Serve wal push and wal fetch of other processes, which have PGCAIRN_SOCKET, until a signal."`
	Search  walSearchCommand  `cmd:"" help:"Find commits, drops, truncations and restore points."`
}

// keyCommand are the commands on keys.
type keyCommand struct {
	Generate keyGenerateCommand `cmd:"" help:"Print a new identity and its recipient."`
	List     keyListCommand     `cmd:"" help:"Say who can read what, as far as can be told."`
	Rotate   keyRotateCommand   `cmd:"" help:"Wrap the data keys to other recipients, or have hosts make new ones."`
}

package pgfile

import (
	"path"
	"strconv"
	"strings"
)

// Relation is what the name of a relation's file tells.
type Relation struct {
	Tablespace uint32 // OID
	Database   uint32 // OID; 0 for what all databases share
	Number     uint32 // relfilenode
	Fork       string // "main", "fsm", "vm" or "init"
	Segment    uint32 // 1,2,...: the file goes on where the one before is full
	Temp       bool   // of a temporary relation
}

// Tablespaces that have no directory below pg_tblspc (pg_tablespace.dat).
const (
	defaultTablespace = 1663
	globalTablespace  = 1664
)

// ParseRelation parses a slash-separated path below the data directory, such as base/5/16384_vm.1, or says that it is
// no relation's (parse_filename_for_nontemp_relation and looks_like_temp_rel_name of PostgreSQL).
func ParseRelation(p string) (r Relation, ok bool) {
	dir, name := path.Split(p)
	if !r.directory(strings.TrimSuffix(dir, "/")) {
		return r, false
	}
	if rest, found := strings.CutPrefix(name, "t"); found {
		var backend string
		if backend, name, found = strings.Cut(rest, "_"); !found || !number(backend, nil) {
			return r, false
		}
		r.Temp = true
	}
	name, segment, dotted := strings.Cut(name, ".")
	if dotted && (!number(segment, &r.Segment) || r.Segment == 0) {
		return r, false
	}
	name, fork, forked := strings.Cut(name, "_")
	r.Fork = "main"
	if forked {
		if fork != "fsm" && fork != "vm" && fork != "init" {
			return r, false
		}
		r.Fork = fork
	}
	return r, number(name, &r.Number) && r.Number != 0
}

// directory parses a directory that relations are kept in: global, base/<db>, pg_tblspc/<oid>/PG_*/<db>.
func (r *Relation) directory(dir string) bool {
	e := strings.Split(dir, "/")
	switch {
	case len(e) == 1:
		r.Tablespace = globalTablespace
		return e[0] == "global"
	case len(e) == 2:
		r.Tablespace = defaultTablespace
		return e[0] == "base" && number(e[1], &r.Database)
	case len(e) == 4:
		return e[0] == "pg_tblspc" && number(e[1], &r.Tablespace) && strings.HasPrefix(e[2], "PG_") && number(e[3], &r.Database)
	}
	return false
}

// DatabaseOf returns the OID of the database that a file is of, by its slash-separated path below the data directory: of
// any file, be it a relation's or another, in base/<db> or pg_tblspc/<oid>/PG_*/<db>.
func DatabaseOf(p string) (oid uint32, ok bool) {
	var r Relation
	if !r.directory(strings.TrimSuffix(p[:strings.LastIndexByte(p, '/')+1], "/")) || r.Database == 0 {
		return 0, false
	}
	return r.Database, true
}

// number parses an unsigned 32 bit number without sign or leading zeros.
func number(s string, to *uint32) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || len(s) > 1 && s[0] == '0' {
		return false
	}
	if to != nil {
		*to = uint32(n)
	}
	return true
}

// ValidOID tells whether a text is an object identifier, such as the name of an entry of pg_tblspc.
func ValidOID(s string) bool { return number(s, nil) && s != "0" }

// ContentExcluded tells whether a directory, by its path below the data directory, is kept without its content: the
// server makes anew what it needs there (excludeDirContents of PostgreSQL's basebackup.c, and pg_wal, which is archived).
func ContentExcluded(dir string) bool {
	switch dir {
	case "pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans":
		return true
	}
	return false
}

// FileExcluded tells whether a file, by its path below the data directory, is left out (excludeFiles of PostgreSQL's
// basebackup.c). Unlogged relations are the caller's to find.
func FileExcluded(file string) bool {
	base := path.Base(file)
	if strings.HasPrefix(base, "pgsql_tmp") || strings.HasPrefix(base, "pg_internal.init") {
		return true
	}
	switch file {
	case "postmaster.pid", "postmaster.opts", "current_logfiles", "current_logfiles.tmp", "postgresql.auto.conf.tmp",
		"backup_label", "backup_label.old", "tablespace_map", "tablespace_map.old", "backup_manifest",
		"recovery.signal", "standby.signal":
		return true
	}
	if r, ok := ParseRelation(file); ok && r.Temp {
		return true
	}
	return false
}

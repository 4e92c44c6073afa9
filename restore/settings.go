package restore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Action is what PostgreSQL does once the target is reached (recovery_target_action).
type Action string

// The actions. At the end of the archive, and for the consistent state without Pause or Shutdown, it always promotes.
const (
	Promote  Action = "promote"
	Pause    Action = "pause"
	Shutdown Action = "shutdown"
)

// owned are the settings that say how to recover. Those a backup brings along belong to an earlier recovery.
var owned = []string{ //nolint:gochecknoglobals // a constant
	"restore_command", "archive_cleanup_command", "recovery_end_command", "primary_conninfo", "primary_slot_name",
	"recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_xid", "recovery_target_name",
	"recovery_target_inclusive", "recovery_target_action", "recovery_target_timeline", "recovery_min_apply_delay",
	"ignore_invalid_pages",
}

// setting is one of PostgreSQL's.
type setting struct{ name, value string }

// autoConf returns the content for postgresql.auto.conf: what the backup has there, less what is owned, the settings of
// this recovery, and more that it takes. They override whatever postgresql.conf says.
func autoConf(existing string, p *Plan, o *Options, more []setting) string {
	var b strings.Builder
	if existing = withoutOwned(existing); existing != "" {
		b.WriteString(strings.TrimRight(existing, "\n") + "\n")
	}
	if o.Standby != nil {
		b.WriteString("# written by pgcairn to follow a primary\n")
	} else {
		b.WriteString("# written by pgcairn to recover " + strings.ReplaceAll(p.Target.String(), "\n", " ") + "\n")
	}
	for _, s := range append(p.settings(o), more...) {
		fmt.Fprintf(&b, "%s = %s\n", s.name, quote(s.value))
	}
	return b.String()
}

// Settings returns the settings by which PostgreSQL will recover, by name, as the options of [Plan.Run] have it: a password in
// the primary's connection string is among them. Settings that depend on where things are restored to come besides.
func (p *Plan) Settings(o *Options) map[string]string {
	options := Options{}
	if o != nil {
		options = *o
	}
	if options.Action == "" {
		options.Action = Promote
	}
	all := map[string]string{}
	for _, s := range p.settings(&options) {
		all[s.name] = s.value
	}
	return all
}

func (p *Plan) settings(o *Options) []setting {
	all := recoverySettings(p, o)
	if o.Standby != nil {
		all = standbySettings(p, o)
	}
	all = append(all, setting{"recovery_end_command", ""}, setting{"archive_cleanup_command", ""},
		setting{"recovery_min_apply_delay", "0"}) // a delayed standby's, which recovery heeds as well
	if !o.KeepArchiving {
		all = append(all, setting{"archive_mode", "off"}) // a clone must not write into the archive of its source
	}
	return all
}

// moreSettings are those that depend on what was restored where.
func (r *run) moreSettings() []setting {
	return append(r.dest.inPlaceSettings(), r.selection.settings()...)
}

// recoverySettings say how to recover to the plan's target.
func recoverySettings(p *Plan, o *Options) []setting {
	command := o.RestoreCommand
	if command == "" {
		command = "false" // all the WAL there is has been staged in pg_wal
	}
	all := []setting{{"restore_command", command}}
	// The end of the WAL that is staged takes the place of a target that is just there: PostgreSQL stops at a record only,
	// and would say that it has not reached the target. A backup of a standby can end where its last segment does.
	atEnd := p.Target.Kind == KindImmediate && p.End() == p.Backup.StopLSN && o.RestoreCommand == "" && o.Action == Promote
	if name, value := targetSetting(p.Target); name != "" && !atEnd {
		all = append(all, setting{name, value})
	}
	return append(all,
		setting{"recovery_target_inclusive", map[bool]string{true: "off", false: "on"}[p.Target.Exclusive]},
		setting{"recovery_target_action", string(o.Action)},
		setting{"recovery_target_timeline", timelineSetting(p)})
}

// targetSetting returns the setting that names the target. PostgreSQL takes offence at a second one, even an empty one.
func targetSetting(t Target) (name, value string) {
	switch t.Kind {
	case KindImmediate:
		return "recovery_target", "immediate"
	case KindTime:
		return "recovery_target_time", t.Time.UTC().Format("2006-01-02 15:04:05.000000+00")
	case KindLSN:
		return "recovery_target_lsn", t.LSN.String()
	case KindXID:
		return "recovery_target_xid", strconv.FormatUint(t.XID, 10)
	case KindName:
		return "recovery_target_name", t.Name
	}
	return "", ""
}

// timelineSetting names the timeline to end on. PostgreSQL insists on the history of one that is given by number, which
// it does not need to stay on that of the backup.
func timelineSetting(p *Plan) string {
	if p.Timeline == p.Backup.Timeline && p.Timeline > 1 && !slices.Contains(p.histories, p.Timeline) {
		return "current"
	}
	return strconv.FormatUint(uint64(p.Timeline), 10)
}

// withoutOwned comments out what a configuration file sets of what is owned.
func withoutOwned(conf string) string {
	var b strings.Builder
	for line := range strings.Lines(conf) {
		if isOwned(line) {
			b.WriteString("# pgcairn: ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// isOwned tells whether a line of a configuration file sets something owned. Between a name and its value the grammar of
// guc-file.l wants an equals sign, white space, or, before a quote, nothing.
func isOwned(line string) bool {
	name := strings.TrimLeft(line, " \t\r\f\v")
	if end := strings.IndexAny(name, " \t\r\f\v\n=#'"); end >= 0 {
		name = name[:end]
	}
	return slices.ContainsFunc(owned, func(o string) bool { return strings.EqualFold(name, o) })
}

// quote quotes a value as ALTER SYSTEM does (escape_single_quotes_ascii). A newline would end the line, so it becomes
// an escape, which the configuration file's grammar knows.
func quote(s string) string {
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}

// Package health says in one call whether a repository would help on the worst day: [Check] tells of the newest backup
// that can be restored, of the WAL and what of it is missing, of what can be recovered, of the last verification and the
// last drill, of sizes, leases and room, and lists what is wrong.
package health

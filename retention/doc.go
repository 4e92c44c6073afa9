// Package retention decides which backups and which WAL to keep.
//
// [Policy.Decide] is pure: it takes the catalogue, what is archived, and a time, and gives every backup its verdict and
// every segment its fate, with reasons. [NewPlan] gathers these from a repository, and [Plan.Apply] deletes what is not kept:
// it is the only code in pgcairn that deletes committed data.
//
// A policy's rules add up: a backup is dropped when none of them wants it. Whoever comes from pgBackRest finds
// repo-retention-full in KeepFull, repo-retention-diff in KeepDifferential, which narrows the former, and
// repo-retention-archive, though as a duration, in KeepWAL. What differs is that no backup depends on another: each lists
// the whole cluster and restores in one pass, and what it shares with others stays as long as any of them does.
package retention

// Package retention decides which backups to keep.
//
// [Policy.Decide] is pure: it takes the catalogue and a time and gives every backup its verdict, with reasons. Nothing
// in pgcairn deletes committed data yet; what will is going to stand here, and act on a Decision only.
package retention

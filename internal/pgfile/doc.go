// Package pgfile knows the files of a PostgreSQL data directory: pg_control, pages and their checksums, which files
// are relations, what a base backup leaves out, and the backup label. Facts that differ between major versions stand
// here and nowhere else.
package pgfile

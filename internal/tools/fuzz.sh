#!/usr/bin/env bash
# Runs every fuzz target of both modules for a while: fuzz.sh [TIME], 10s by default. Run by `make fuzz`.
set -euo pipefail
cd "$(dirname "$0")/../.."
time=${1:-10s}

targets=$(grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . || true)
if [ -z "$targets" ]; then
	echo "fuzz.sh: no fuzz target found" >&2
	exit 1
fi
while IFS=: read -r file _ func; do
	name=${func#func }
	echo "== $(dirname "$file") $name"
	go test -C "$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "$time" .
done <<<"$targets"

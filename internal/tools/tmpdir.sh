#!/usr/bin/env bash
# Prints the directory for what tests write: in memory where there are 12 GiB to spare, or else the usual one. Tests write
# gigabytes that nobody keeps, and what they sync takes along what everybody else has written to that disk.
set -euo pipefail

gib=$((1 << 20)) # in KiB, as all below
free=$(df --output=avail /dev/shm 2>/dev/null | tail -n 1) || free=0
available=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo 2>/dev/null) || available=0
if [ -n "${TMPDIR:-}" ] || ((free < 12 * gib || available < 12 * gib)) || grep -q '^[^ ]* /dev/shm .*noexec' /proc/mounts; then
	echo "${TMPDIR:-/tmp}"
else
	echo /dev/shm
fi

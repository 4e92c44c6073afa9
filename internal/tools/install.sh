#!/usr/bin/env bash
# Installs what tests and benchmarks need beside Go: Debian's client tools and the PostgreSQL servers 13 to 18 pinned in
# internal/pgtest/servers. Quick when there is nothing to do. Run by `make tools`.
set -euo pipefail
umask 022
cd "$(dirname "$0")/../pgtest/servers"

# package_for TOOL prints the Debian package that brings TOOL.
package_for() {
	case $1 in
	cc) echo gcc libc6-dev ;; # the race detector needs cgo
	node) echo nodejs ;;
	pg_verifybackup) echo postgresql ;;
	*) echo "$1" ;;
	esac
}

has() {
	case $1 in
	pg_verifybackup) compgen -G '/usr/lib/postgresql/*/bin/pg_verifybackup' >/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
	local tool missing=() packages=()
	for tool in cc node npm pg_verifybackup zstd age pgbackrest; do
		# shellcheck disable=SC2207 # one tool may need several packages
		has "$tool" || { missing+=("$tool") && packages+=($(package_for "$tool")); }
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if ! command -v apt-get >/dev/null || ! { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }; then
		echo "install.sh: missing: ${missing[*]}. On Debian, as root: apt-get install ${packages[*]}" >&2
		return 1
	fi
	if ! has pg_verifybackup; then # a test tool must not leave a running database server behind
		as_root mkdir -p /etc/postgresql-common/createcluster.d
		echo 'create_main_cluster = false' |
			as_root tee /etc/postgresql-common/createcluster.d/pgcairn.conf >/dev/null
	fi
	as_root apt-get -q update
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${packages[@]}"
}

# The servers run as another user when root runs the tests, and a checkout may lie where that user cannot look, so they
# are kept in a cache, in a directory named by the lock file. internal/pgtest/binaries.go looks in the same place.
cache_dir() {
	if [ "$(id -u)" = 0 ]; then echo /var/cache/pgcairn; else echo "${XDG_CACHE_HOME:-$HOME/.cache}/pgcairn"; fi
}

install_servers() {
	local cache dir new server
	cache=$(cache_dir)
	dir=$cache/servers-$(sha256sum package-lock.json | cut -c1-16)
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9 # two checkouts may install at the same time
	if [ ! -d "$dir" ]; then
		new=$dir.new
		rm -rf "$new"
		mkdir "$new"
		cp package.json package-lock.json .npmrc "$new"
		(cd "$new" && npm ci)
		for server in "$new"/node_modules/pg*; do
			(cd "$server" && node scripts/hydrate-symlinks.js) # the package's own postinstall step
			chmod -R a+rX "$server"
			"$server/native/bin/postgres" --version
		done
		mv "$new" "$dir"
	fi
	echo "servers: $dir"
}

install_packages
install_servers

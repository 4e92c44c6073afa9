#!/usr/bin/env bash
# Shows the main road of pgcairn on a scratch cluster: an encrypted backup, archived WAL, a table dropped by mistake, and
# a recovery to the second before. It takes less than a minute and leaves nothing behind but PostgreSQL's packages, which
# it installs where there are none. Run by `make demo`, which builds bin/pgcairn first.
set -euo pipefail

fail() {
	echo "demo: $*" >&2
	exit 1
}

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

# run shows a command and runs it.
run() {
	printf '$ %s\n' "$*"
	"$@"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# find_server prints the directory of the newest PostgreSQL server's programs.
find_server() {
	local initdb
	initdb=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -1) || initdb=$(command -v initdb) || return 1
	dirname "$(readlink -f "$initdb")"
}

install_server() {
	local conf=/etc/postgresql-common/createcluster.d/pgcairn-demo.conf
	command -v apt-get >/dev/null || fail "no PostgreSQL server found, and no apt-get to install one: install PostgreSQL 13 to 18"
	[ "$(id -u)" = 0 ] || command -v sudo >/dev/null || fail "no PostgreSQL server found: as root, apt-get install postgresql"
	say "No PostgreSQL server found: installing the distribution's, without a cluster of its own"
	as_root mkdir -p "$(dirname $conf)"
	echo 'create_main_cluster = false' | as_root tee $conf >/dev/null
	as_root apt-get -qq update
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qqy install --no-install-recommends postgresql >/dev/null
	as_root rm $conf
}

# prepare finds what the demo needs, and goes on as a user that PostgreSQL is content with.
prepare() {
	cd "$(dirname "$0")/../.."
	[ -x bin/pgcairn ] || fail "no bin/pgcairn: run make build"
	find_server >/dev/null || install_server
	local server work user
	server=$(find_server)
	work=$(mktemp -d /tmp/pgcairn-demo.XXXXXX) # short, as a socket goes into it
	# shellcheck disable=SC2064 # the directory is known now
	trap "rm -rf '$work'" EXIT
	mkdir "$work/bin"
	cp bin/pgcairn "$work/bin/" # the other user may not be able to look into this checkout
	cp "$0" "$work/demo.sh"
	local road=(env -i "PATH=$work/bin:$server:$PATH" HOME="$work" LC_ALL=C.UTF-8 bash "$work/demo.sh" road "$work")
	if [ "$(id -u)" = 0 ]; then # under which PostgreSQL refuses to run
		for user in postgres nobody; do
			id "$user" >/dev/null 2>&1 && break
		done
		chown -R "$user" "$work"
		road=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups "${road[@]}")
	fi
	(cd "$work" && "${road[@]}")
}

# checksums prints a line for each table: its name, its number of rows, and a hash of them all.
checksums() {
	psql -qAtX -F ' ' <<'SQL'
select format('select %1$L, count(*), md5(coalesce(string_agg(t::text, chr(10) order by t::text), '''')) from %1$I t', tablename)
from pg_tables where schemaname = 'public' order by tablename \gexec
SQL
}

sql() { psql -qAtX -v ON_ERROR_STOP=1 -c "$1"; }

stop_servers() {
	for data in "$work/data" "$work/recovered"; do
		pg_ctl -D "$data" stop -m immediate >/dev/null 2>&1 || true
	done
}

road() {
	work=$1
	trap stop_servers EXIT
	export PGHOST=$work PGUSER=demo PGDATABASE=postgres PGPORT=5432
	export PGCAIRN_REPO=$work/repository PGCAIRN_STATE_DIR=$work/state

	say "A key. The database host gets the recipient only: it can write backups, and read none"
	echo '$ pgcairn key generate >identity.txt'
	pgcairn key generate >identity.txt
	PGCAIRN_RECIPIENTS=$(sed -n 's/# public key: //p' identity.txt)
	export PGCAIRN_RECIPIENTS
	echo "recipient: $PGCAIRN_RECIPIENTS"

	say "An encrypted repository"
	run pgcairn init

	say "A cluster that archives into it: $(postgres --version)"
	initdb -D data -U demo --auth=trust --data-checksums --no-sync >/dev/null
	cat >>data/postgresql.conf <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$work'
		archive_mode = on
		archive_command = 'pgcairn wal push %p'
	CONF
	tail -1 data/postgresql.conf
	pg_ctl -D data -l data.log -w start >/dev/null
	run pgcairn check

	say "Some data, and a full backup"
	sql "create table customers as select i as id, md5(i::text) as name from generate_series(1, 200000) i"
	sql "create table orders as select i as id, 1 + i % 200000 as customer, repeat(md5(i::text), 4) as note from generate_series(1, 300000) i"
	run pgcairn backup --pgdata data

	say "More writes, and the time"
	sql "insert into orders select i, 1, 'after the backup' from generate_series(300001, 310000) i"
	sql "update customers set name = upper(name) where id % 10 = 0"
	checksums >before.txt
	cat before.txt
	sleep 1
	at=$(date -u +%Y-%m-%dT%H:%M:%SZ)
	sleep 1
	echo "it is $at"

	say "The disaster"
	echo "=> drop table orders;"
	sql "drop table orders"
	sql "select pg_switch_wal()" >/dev/null
	until [ "$(ls data/pg_wal/archive_status/*.ready 2>/dev/null)" = "" ]; do sleep 0.1; done # archived
	run pgcairn wal list

	say "The recovery, to a new directory, with the identity"
	run pgcairn restore recovered --to-time "$at" --identity identity.txt
	PGPORT=5433
	pg_ctl -D recovered -l recovered.log -w -o "-p $PGPORT" start >/dev/null || { tail recovered.log && fail "the recovered cluster did not start"; }
	for _ in {1..300}; do # it accepts queries before recovery has ended
		[ "$(sql 'select pg_is_in_recovery()')" = t ] || break
		sleep 0.1
	done
	checksums >after.txt
	cat after.txt

	say "The verdict"
	diff before.txt after.txt || fail "the recovered tables differ from those of $at"
	echo "All $(wc -l <after.txt) tables are back as they were at $at, row for row, the dropped one too."
}

if [ "${1:-}" = road ]; then
	road "$2"
else
	prepare
fi

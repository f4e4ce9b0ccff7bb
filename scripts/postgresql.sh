#!/bin/sh
# Installs PostgreSQL's server, contrib and client programs if this machine has none, without the distribution's own
# cluster: walgate makes its own. Arguments are more packages to install with it.
set -eu

have_postgres() { ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1; }

need=""
have_postgres || need="postgresql postgresql-contrib postgresql-client"
for package in "$@"; do
	need="$need $package"
done
[ -n "$need" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	cat >&2 <<-TEXT
		Missing here: $need
		This script knows apt only (Debian, Ubuntu). Install PostgreSQL 13 or later with your system's package manager, the
		server and contrib modules included, so that initdb is in PATH or in /usr/lib/postgresql/*/bin; then run this again.
	TEXT
	exit 1
fi

if [ "$(id -u)" -eq 0 ]; then
	as_root=""
elif command -v sudo >/dev/null 2>&1; then
	as_root="sudo"
else
	echo "Missing here: $need. Run this as root, or install sudo." >&2
	exit 1
fi

install() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		-o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

echo "Installing:$need" | tr -s ' '
$as_root apt-get update -qq
if ! have_postgres; then
	# Debian creates and starts a cluster "main" with the server package, unless it is told before not to.
	install postgresql-common
	$as_root sed -i -E 's/^#?[[:space:]]*create_main_cluster[[:space:]]*=.*/create_main_cluster = false/' \
		/etc/postgresql-common/createcluster.conf
	grep -q '^create_main_cluster = false' /etc/postgresql-common/createcluster.conf ||
		echo 'create_main_cluster = false' | $as_root tee -a /etc/postgresql-common/createcluster.conf >/dev/null
fi
# shellcheck disable=SC2086 # a list of packages
install $need

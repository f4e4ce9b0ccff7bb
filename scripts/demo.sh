#!/bin/sh
# Starts the demo cluster and says what to try; "stop" ends it. DEMO_DIR and DEMO_PORT choose where.
set -eu
cd "$(dirname "$0")/.."
dir=${DEMO_DIR:-/var/tmp/walgate-demo-$(id -un)}
port=${DEMO_PORT:-6432}

if [ "${1:-}" = stop ]; then
	exec bin/walgate demo stop --dir "$dir"
fi
bin/walgate demo --detach --dir "$dir" --port "$port"

# demo.json is one object; without white space it can be read with grep.
facts=$(tr -d ' \n\t' <"$dir/demo.json")
first() { printf '%s' "$facts" | grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d'"' -f4; }
password=$(first password)
api=$(first api)
primary=$(bin/walgate status --api "$api" -o json | tr -d ' \n\t' | grep -o '"primary":"[^"]*"' | head -n 1 | cut -d'"' -f4)
postmaster=$(printf '%s' "$facts" | grep -o "{\"name\":\"$primary\"[^}]*}" | grep -o '"postmaster_pid":[0-9]*' | cut -d: -f2)

cat <<TEXT

A cluster of three is running; its primary is $primary.

  connect            PGPASSWORD=$password psql -h 127.0.0.1 -p $port -U postgres postgres
  see the cluster    bin/walgate status --api $api        (or open $api in a browser)
  kill the primary   kill -9 $postmaster      and go on typing in psql
  switch over        bin/walgate switchover --yes --api $api
  stop everything    make demo-stop

More to try: README.md, "Try a failover".
TEXT

#!/bin/sh
# Installs the drivers of other languages that the end-to-end tests run against walgate, where this machine lacks them.
# The packages of npm go to .cache/clients.
set -eu
cd "$(dirname "$0")/.."

python() { /usr/bin/python3 -c "import $1" >/dev/null 2>&1; }

need=""
python psycopg2 || need="$need python3-psycopg2"
python psycopg || need="$need python3-psycopg"
python asyncpg || need="$need python3-asyncpg"
python sqlalchemy || need="$need python3-sqlalchemy"
[ -r /usr/share/java/postgresql.jar ] || need="$need libpostgresql-jdbc-java"
command -v javac >/dev/null 2>&1 || need="$need default-jdk-headless"
command -v npm >/dev/null 2>&1 || need="$need nodejs npm"

# shellcheck disable=SC2086 # a list of packages
[ -z "$need" ] || scripts/postgresql.sh $need

if ! cmp -s e2e/clients/node/package-lock.json .cache/clients/package-lock.json; then
	rm -rf .cache/clients
	mkdir -p .cache/clients
	cp e2e/clients/node/package.json .cache/clients/
	(
		cd .cache/clients
		cp ../../e2e/clients/node/package-lock.json .
		npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null || {
			rm -f package-lock.json
			exit 1
		}
	)
fi

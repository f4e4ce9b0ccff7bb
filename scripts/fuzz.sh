#!/usr/bin/env bash
# Fuzzes every target of the repository, one after the other: scripts/fuzz.sh [TIME of each] [PATTERN of their names].
# What is found stays as a seed below testdata/fuzz of the package; the numbers of each target are printed at its end.
set -uo pipefail
cd "$(dirname "$0")/.."

time=${1:-1m}
pattern=${2:-.}
failed=()

while read -r file target; do
	package=./$(dirname "$file")
	log=$(mktemp)
	if nice -n 19 go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -parallel "${FUZZ_PARALLEL:-1}" "$package" >"$log" 2>&1; then
		verdict=ok
	else
		verdict=FAILED
		failed+=("$package $target")
		grep -v '^fuzz: elapsed' "$log" | tail -40
	fi
	echo "$verdict $package $target: $(grep -o 'execs: [0-9]*' "$log" | tail -1), $(grep -o 'total: [0-9]*' "$log" | tail -1) inputs of interest"
	rm -f "$log"
done < <(grep -rnoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed -E 's|^\./||; s|:[0-9]+:func | |' | grep -E "$pattern" | sort)

if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}" >&2
	exit 1
fi

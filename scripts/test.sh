#!/usr/bin/env bash
# Every check that CI makes, or one stage: lint, unit, e2e. All stages run even if an earlier one fails. The time of a
# stage is printed when it ends; the end-to-end tests come last, and end with the summary of go test.
set -uo pipefail
cd "$(dirname "$0")/.."

export WALGATE_REQUIRE_POSTGRES=1
lint_version=v2.15.0
bin=$PWD/.cache/bin
failed=()

stage() { # name command...
	local name=$1 from=$SECONDS
	shift
	echo "== $name"
	if ! "$@"; then
		failed+=("$name")
		echo "== $name: FAILED after $((SECONDS - from)) s"
	else
		echo "== $name: ok, $((SECONDS - from)) s"
	fi
}

prepare() {
	local missing=()
	# The race detector needs a C compiler; the product does not.
	command -v gcc >/dev/null || missing+=(gcc libc6-dev)
	scripts/postgresql.sh ${missing[@]+"${missing[@]}"}
}

# What the end-to-end tests run as clients. Other systems than Debian and Ubuntu test with what they have.
clients() {
	command -v apt-get >/dev/null || return 0
	scripts/clients.sh && export WALGATE_REQUIRE_CLIENTS=1
}

formatted() {
	local files
	files=$(find . -name '*.go' -not -path './.*' -exec gofmt -l {} +)
	[ -z "$files" ] || { echo "gofmt would change:"; echo "$files"; return 1; }
}

linter() { # prints the path of golangci-lint in the version we want, building it if need be
	local path
	for path in "$bin/golangci-lint" "$(command -v golangci-lint || true)"; do
		if [ -n "$path" ] && [ -x "$path" ] && "$path" version 2>/dev/null | grep -q "version ${lint_version#v} "; then
			echo "$path"
			return
		fi
	done
	GOBIN=$bin GOFLAGS= go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$lint_version" >&2 && echo "$bin/golangci-lint"
}

lint() {
	local path
	path=$(linter) || { echo "golangci-lint $lint_version could not be built"; return 1; }
	GOLANGCI_LINT_CACHE=$PWD/.cache/golangci-lint "$path" run ./...
}

checks() {
	stage "gofmt" formatted
	stage "go vet" go vet ./...
	stage "golangci-lint" lint
}

unit() {
	# shellcheck disable=SC2046 # a list of packages
	go test -race -count=1 -timeout 15m $(go list ./... | grep -v '/e2e$')
}

# The tests of package proxy run on epoll loops; what does not take long runs on the other driver too.
goroutines() { go test -count=1 -timeout 8m -skip 'Corpus|Leak|Consistency|Hostile' ./proxy -loops 0; }

# What depends on the version of PostgreSQL, with others than this machine's; all: WALGATE_POSTGRES_VERSIONS="13 14 16 17 18".
versions() {
	local version tests='Login|Queries|Copy|Cancel|Listen|Batches|ReadsOnStandby|Statements.*|SessionState|AnswersAlike'
	tests+='|ReplicationCommandsErrorsAndCancel|LogicalReplication|IdleSessionsSurviveRestart|ProcessIDs|PlaceInSequence'
	for version in ${WALGATE_POSTGRES_VERSIONS-18}; do
		if ! scripts/versions.sh "$version"; then
			echo "SKIPPED: nothing was tested with PostgreSQL $version, its programs could not be had"
			continue
		fi
		go test -count=1 -timeout 8m ./proxy -postgres "$PWD/.cache/postgres/$version/bin" -run "^Test($tests)\$" || return 1
	done
}

# The race detector is slow, so that under it the simulator runs a few seeds only; here it runs all of them.
simulator() { go test -count=1 -timeout 8m -run '^TestSimulator' ./ha; }

e2e() { go test -race -count=1 -timeout 12m ./e2e/...; }

case ${1:-all} in
lint) checks ;;
unit) stage "prepare" prepare && stage "unit tests" unit && stage "goroutine driver" goroutines && stage "versions of PostgreSQL" versions && stage "simulator" simulator ;;
e2e) stage "prepare" prepare && stage "clients" clients && e2e || failed+=("end-to-end tests") ;;
all)
	stage "prepare" prepare
	stage "clients" clients
	checks
	stage "unit tests" unit
	stage "goroutine driver" goroutines
	stage "versions of PostgreSQL" versions
	stage "simulator" simulator
	echo "== so far $SECONDS s; end-to-end tests"
	e2e || failed+=("end-to-end tests")
	;;
*)
	echo "usage: $0 [lint|unit|e2e]" >&2
	exit 2
	;;
esac

if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}" >&2
	exit 1
fi

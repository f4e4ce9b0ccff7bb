# build: the binary. demo: a whole cluster on this machine. test: everything that CI checks.

GO      ?= go

.PHONY: build demo demo-stop test unit e2e lint fuzz fuzz-all difftest clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/walgate ./cmd/walgate

demo:
	@scripts/postgresql.sh
	@$(MAKE) --no-print-directory build
	@scripts/demo.sh

demo-stop:
	@scripts/demo.sh stop

test:
	@scripts/test.sh

unit:
	@scripts/test.sh unit

e2e:
	@scripts/test.sh e2e

lint:
	@scripts/test.sh lint

# One parser or decision at a time: make fuzz FUZZ=FuzzClassify PKG=./router TIME=5m
FUZZ ?= FuzzClassify
PKG  ?= ./router
TIME ?= 1m
fuzz:
	$(GO) test -run '^$$' -fuzz '^$(FUZZ)$$' -fuzztime $(TIME) $(PKG)

# The lexer against PostgreSQL's own scanner and grammar (cgo; a module of its own). TIME is for each of its two fuzzers.
difftest:
	cd router/difftest && $(GO) vet ./... && $(GO) test ./...
	cd router/difftest && for f in FuzzScan FuzzParse; do $(GO) test -run '^$$' -fuzz "^$$f\$$" -parallel 1 -fuzztime $(TIME) . || exit 1; done

# All of them, one after the other: make fuzz-all TIME=10m
fuzz-all:
	@scripts/fuzz.sh $(TIME)

clean:
	rm -rf bin dist .cache

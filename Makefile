# make, or make help: what there is.
#
# Variables:
#   GO            the go command to use                        (go)
#   ARGS          further arguments of `make run`, as in ARGS="--listen 127.0.0.1:9000"
#   PKGS          the packages that are tested and linted      (./...)
#   TESTFLAGS     further arguments of go test, as in TESTFLAGS="-run Fold -v"
#   TEST_TIMEOUT  bound of one package's tests                 (20m)
#   TEST_PACKAGES how many packages are tested at one time     (one more than processors: tests wait as much as they compute)
#   BENCH         which benchmarks run, a regular expression   (.)
#   BENCHTIME     how long each of them runs                   (1s)
#   BENCHCOUNT    how often                                    (1)
#   COMPARECOUNT  how often when they are compared             (6)
#   BASE          the revision to compare with                 (main)
#   DURATION      how long `make soak` injects faults          (30m)
#   SEED          of what is random in it; 0 takes the clock   (0)
#   VERSION       what `afterword version` says                (from git)
#
# AFTERWORD_TEST_ALL=1 in the environment fails tests that lack root, FUSE or the like
# here, instead of skipping them.

GO           ?= go
PKGS         ?= ./...
TEST_TIMEOUT ?= 20m
TEST_PACKAGES ?= $(shell expr $$(nproc) + 1)
BENCH        ?= .
BENCHTIME    ?= 1s
BENCHCOUNT   ?= 1
COMPARECOUNT ?= 6
BASE         ?= main
DURATION     ?= 30m
SEED         ?= 0
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT       ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

BENCHSTAT   = golang.org/x/perf/cmd/benchstat@v0.0.0-20260709024250-82a0b07e230d
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Where time is spent for every turn.
HOT         = ./transcript ./publisher ./consumer ./cache
LDFLAGS     = -s -w -X main.linkedVersion=$(VERSION) -X main.linkedCommit=$(COMMIT)

.DEFAULT_GOAL = help
.PHONY: help run build deb release test e2e tools lint bench compare soak

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## start everything in one process on http://127.0.0.1:8080, data in ./data; Ctrl-C ends it
	@exec bin/afterword serve $(ARGS)

build: ## build the static binary bin/afterword
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/afterword ./cmd/afterword

deb: build ## make a Debian package of bin/afterword, in dist/
	@deploy/deb/build bin/afterword "$$($(GO) env GOARCH)" '$(VERSION)' "dist/afterword_$$($(GO) env GOARCH).deb"

release: ## make archives, packages, SBOMs and checksums for linux amd64 and arm64, in dist/; the same bytes every time
	@GO='$(GO)' VERSION='$(VERSION)' COMMIT='$(COMMIT)' deploy/release/build dist

test: tools ## install what the tests need, then go vet and go test -race
	$(GO) vet $(PKGS)
	CGO_ENABLED=1 $(GO) test -race -p $(TEST_PACKAGES) -timeout $(TEST_TIMEOUT) $(TESTFLAGS) $(PKGS)

e2e: tools ## install what more these need, and test what is delivered: units, packages, pages, clients
	@sh .ci/tools e2e
	CGO_ENABLED=1 $(GO) test -tags e2e -count 1 -timeout $(TEST_TIMEOUT) $(TESTFLAGS) ./internal/e2e/...
	cd internal/e2e/validate && $(GO) test -vet=off -timeout $(TEST_TIMEOUT) ./...

tools: ## install what the tests need (Debian packages); says nothing when it is there
	@sh .ci/tools

lint: ## check formatting, go vet and staticcheck
	@files=$$(gofmt -l $$(git ls-files '*.go')) && if [ -n "$$files" ]; then echo "not formatted, run gofmt -w:"; echo "$$files"; exit 1; fi
	$(GO) vet -tags e2e $(PKGS)
	$(GO) run $(STATICCHECK) -tags e2e $(PKGS)

bench: tools ## run the benchmarks of the hot paths
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -count $(BENCHCOUNT) -benchmem $(HOT)

compare: ## run them for BASE and for this tree, and compare the two with benchstat
	@old=$$(mktemp -d) && trap 'git worktree remove --force "$$old/tree"; rm -rf "$$old"' EXIT && \
	git worktree add --quiet --detach "$$old/tree" '$(BASE)' && \
	$(MAKE) --no-print-directory -C "$$old/tree" -f "$(abspath Makefile)" bench BENCHCOUNT=$(COMPARECOUNT) > "$$old/base.txt" && \
	$(MAKE) --no-print-directory bench BENCHCOUNT=$(COMPARECOUNT) > "$$old/this.txt" && \
	$(GO) run $(BENCHSTAT) "$$old/base.txt" "$$old/this.txt"

soak: tools ## mixed faults under load for DURATION, and a report; needs root
	$(GO) test -count 1 -timeout 0 ./internal/acceptance -run '^TestSoak$$' -v -args -soak $(DURATION) -seed $(SEED)

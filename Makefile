# `make help` lists the targets.

FUZZTIME ?= 10s
BENCHFLAGS ?=
LINTER := .tools/golangci-lint
STORES := .tools/versitygw .tools/minio .tools/fake-gcs-server .tools/toxiproxy .tools/azurite/node_modules/.package-lock.json
# Static programs run on any Linux, and start a millisecond sooner.
BUILD := CGO_ENABLED=0 go build -trimpath
TEST := TMPDIR=$$($(CURDIR)/internal/tools/tmpdir.sh) go test -p 2 -timeout 75m
# Packages with tests that are repeated on several servers, and of which the race detector sees two.
BY_MAJOR = $(sort $(dir $(shell grep -rlE 'pgtest\.(Each|Some)' --include='*_test.go' .)))
# Packages that tell how a file meets a disk, where tests are otherwise run in memory.
ON_DISK := ./internal/durable ./repo

.DEFAULT_GOAL := help
.PHONY: help build tools servers test lint fmt fuzz bench demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the example CLI: bin/pgcairn, and bin/pgcairn-cloud, which it becomes for buckets
	cd examples && $(BUILD) -o ../bin/pgcairn ./pgcairn
	cd examples && $(BUILD) -tags cloud -o ../bin/pgcairn-cloud ./pgcairn

tools: servers $(LINTER) $(STORES) ## install all that tests, linter and benchmarks need (Debian packages when run by root or sudo)

servers: ## install PostgreSQL 13 to 18 and Debian's client tools
	internal/tools/install.sh

test: tools ## run all tests, with the race detector; and without it on all servers, and on disk
	$(TEST) -race ./...
	$(TEST) $(BY_MAJOR)
	go test $(ON_DISK)
	cd examples && $(TEST) -race ./...

lint: $(LINTER) ## run the linter on both modules
	$(LINTER) run --allow-parallel-runners ./...
	cd examples && ../$(LINTER) run --allow-parallel-runners ./...

fmt: $(LINTER) ## format the code
	$(LINTER) fmt
	cd examples && ../$(LINTER) fmt

fuzz: ## run every fuzz target for FUZZTIME (10s)
	internal/tools/fuzz.sh $(FUZZTIME)

bench: tools build ## compare speed and size with other tools
	go run ./internal/bench $(BENCHFLAGS)

demo: build ## show a backup, a disaster and a recovery
	examples/demo/demo.sh

clean: ## remove what was built
	rm -rf bin .tools

$(LINTER): internal/tools/go.mod internal/tools/go.sum
	cd internal/tools && go build -o ../../$(LINTER) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Servers of object stores, which tests run.
SERVER = cd $(<D) && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o ../../../$@

.tools/versitygw: internal/tools/s3/go.mod internal/tools/s3/go.sum
	$(SERVER) github.com/versity/versitygw/cmd/versitygw

.tools/minio: internal/tools/minio/go.mod internal/tools/minio/go.sum
	$(SERVER) github.com/minio/minio

.tools/toxiproxy: internal/tools/toxiproxy/go.mod internal/tools/toxiproxy/go.sum
	$(SERVER) github.com/Shopify/toxiproxy/v2/cmd/server

.tools/fake-gcs-server: internal/tools/gcs/go.mod internal/tools/gcs/go.sum
	$(SERVER) github.com/fsouza/fake-gcs-server

.tools/azurite/%: internal/tools/azurite/package.json internal/tools/azurite/package-lock.json | servers
	mkdir -p .tools/azurite
	cd $(<D) && cp package.json package-lock.json .npmrc ../../../.tools/azurite
	cd .tools/azurite && npm ci && touch $*

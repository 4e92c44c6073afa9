# `make help` lists the targets.

FUZZTIME ?= 10s
BENCHFLAGS ?=
LINTER := .tools/golangci-lint
S3SERVER := .tools/versitygw
# Static programs run on any Linux, and start a millisecond sooner.
BUILD := CGO_ENABLED=0 go build -trimpath
TEST := go test -race -p 2 -timeout 75m

.DEFAULT_GOAL := help
.PHONY: help build tools servers test lint fmt fuzz bench demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the example CLI: bin/pgcairn, and bin/pgcairn-cloud, which it becomes for buckets
	cd examples && $(BUILD) -o ../bin/pgcairn ./pgcairn
	cd examples && $(BUILD) -tags cloud -o ../bin/pgcairn-cloud ./pgcairn

tools: servers $(LINTER) $(S3SERVER) ## install all that tests, linter and benchmarks need (Debian packages when run by root or sudo)

servers: ## install PostgreSQL 13 to 18 and Debian's client tools
	internal/tools/install.sh

test: tools ## run all tests, with the race detector
	$(TEST) ./...
	cd examples && $(TEST) ./...

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

$(S3SERVER): internal/tools/s3/go.mod internal/tools/s3/go.sum
	cd internal/tools/s3 && CGO_ENABLED=0 go build -trimpath -o ../../../$(S3SERVER) github.com/versity/versitygw/cmd/versitygw

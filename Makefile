# Targets and what they need are listed by "make help". Servers are installed into a cache folder outside the checkout.
SHELL := bash
GOLANGCI := bin/golangci-lint-v2.15.0
FUZZTIME ?= 30s
DURATION ?= 30m
SEEDS ?= 1000
FROM ?= 0

.PHONY: help build servers test race e2e fuzz sim planted large long matrix lint fmt bench bench-verify bench-rdb demo soak clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -En 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

build: ## the binary, bin/redriver
	go build -o bin/redriver ./cmd/redriver

servers: # what cannot be had fails the tests that need it, not the others
	-@internal/tools/redis-install redis-7.0 >/dev/null
	-@internal/tools/kafka-install >/dev/null

test: servers ## go vet and all tests; TESTFLAGS="-run X" and the like
	@go run ./internal/tools/testall -timeout=20m $(TESTFLAGS) ./...

race: servers ## all tests under the race detector, the binary too (needs a C compiler)
	@RACE=1 CGO_ENABLED=1 go run ./internal/tools/testall -timeout=40m -race $(TESTFLAGS) ./...

e2e: servers ## the black-box tests alone, with their output
	go test -count=1 -timeout=30m -v $(TESTFLAGS) ./e2e/...

fuzz: ## every fuzz target for FUZZTIME (30s)
	internal/tools/fuzzall $(FUZZTIME)

planted: servers ## verify at full size: a million keys with 10,000 differences, a sorted set of 10 million members
	REDRIVER_PLANTED_KEYS=1000000 REDRIVER_LARGE_MEMBERS=10000000 go test -count=1 -v -run 'TestPlantedDifferencesAreFound|TestLargeValues' ./verify

large: servers ## values larger than the processes: a sorted set of 20 million members, a string of 512 MB, huge commands, end to end
	REDRIVER_LARGE_MEMBERS=20000000 REDRIVER_LARGE_STRING_MB=511 go test -count=1 -timeout=60m -v -run TestValuesLarger ./e2e
	REDRIVER_LARGE_UNITS=10 go test -count=1 -timeout=30m -v -run TestHugeUnits ./e2e
	REDRIVER_LARGE=1 go test -count=1 -timeout=30m -v -run 'TestLarge|TestInterruptionsInside' ./source

long: servers ## the tests that make test runs shortened, in full: a million keys, twenty kills of each side, half a minute without Kafka
	REDRIVER_LONG=1 go test -count=1 -timeout=30m -v -run 'TestClusterIntoAnother|TestKilled|TestKafkaAway|TestHistory' ./e2e

matrix: servers ## every version into every other; writes docs/compatibility.md
	go test -count=1 -timeout=60m -v -run TestEveryVersionInto ./e2e -matrix

lint: $(GOLANGCI) ## formatting, golangci-lint, go vet, shellcheck, the rules of this repository
	$(GOLANGCI) run ./...
	go vet ./...
	go test ./internal/lint
	$(if $(shell command -v shellcheck),shellcheck .ci/run internal/tools/*-install internal/tools/fuzzall,@echo "no shellcheck here: scripts not checked")

fmt: $(GOLANGCI) ## format all Go files
	$(GOLANGCI) fmt

# a module file of its own: the linter's dependencies must not enter the project's
$(GOLANGCI): internal/tools/tools.mod
	go build -modfile=internal/tools/tools.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

bench: servers ## the benchmarks behind the figures in the docs; BENCHFLAGS="-runs 1 -parts stream" runs parts, "-redis-shake PATH -redis-gunyu PATH" adds peers
	go run ./e2e/bench $(BENCHFLAGS)

bench-verify: servers ## the benchmark of verify; BENCHFLAGS="-redis-full-check PATH" measures that beside it
	go run ./e2e/bench -verify $(BENCHFLAGS)

bench-rdb: servers ## the benchmark of reading RDB files; BENCHFLAGS="-rdb-parser PATH" measures that program beside it
	go run ./e2e/bench -rdb $(BENCHFLAGS)

demo: build ## two clusters, one copied into the other, to look at
	bin/redriver demo

sim: ## the simulation, SEEDS (1000) of it from FROM (0) on; SEED=n runs one and shows its log
	@set -o pipefail; $(if $(SEED),REDRIVER_SIM_SEED=$(SEED),REDRIVER_SIM_SEEDS=$(SEEDS) REDRIVER_SIM_FROM=$(FROM)) go test -count=1 -timeout=0 -v -run '^TestSim' $(TESTFLAGS) ./internal/sim | grep -v '^ *\(--- PASS\|=== RUN\)'

soak: servers ## all faults in random order under load, for DURATION (30m); SOAK_SEED=n repeats an order, SOAK_VERSION=redis-8.6 has such clusters
	SOAK=$(DURATION) go test -count=1 -timeout=0 -v -run '^TestSoak' ./e2e

clean: ## what was built here; the cache stays
	rm -rf bin e2e/artifacts

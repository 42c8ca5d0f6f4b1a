# What one does with this repository. `make` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Longer than the slowest package takes under the race detector on two cores.
TEST_TIMEOUT ?= 20m
BENCH_TIME   ?= 2s

# Of make test-faults.
KILLS  ?= 100
OUTAGE ?= 10m
STEPS  ?= 300
SEED   ?= 0

# Of make simulate-refresher, PLAYS a day. ARGS are further flags: --help lists them.
DAYS     ?= 1
EXPONENT ?= 1
ARGS     ?=

# Of make soak and its kin.
RATE    ?= 1157
MINUTES ?= 30
CITIES  ?= 3781
SONGS   ?= 100000
PRELOAD ?= 0

simulate-refresher: PLAYS ?= 10e6
bench-cold-start:   PLAYS ?= 20000000
bench-adhoc:        PLAYS ?= 20000000
bench-adhoc:        SONGS = 1000000
soak-backfill:      PLAYS ?= 2000000
bench-backfill:     PLAYS ?= 1000000

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run everything on this machine with simulated plays (RATE, LISTEN, DATA, SECONDS)
	@scripts/demo.sh

.PHONY: build
build: ## Build bin/topk
	go build -o bin/topk ./cmd/topk

.PHONY: engines
engines: ## Fetch what the embedded ClickHouse and Redis need, once
	scripts/engines.sh

.PHONY: kafka
kafka: ## Fetch the Kafka broker that the fault tests kill, once
	scripts/kafka.sh

.PHONY: schemathesis
schemathesis: ## Fetch the program that tries the API by its OpenAPI document, once
	scripts/schemathesis.sh

.PHONY: test
test: engines kafka schemathesis ## Run every test, with the race detector
	go vet ./...
	go test -race -timeout $(TEST_TIMEOUT) ./cmd/topk ./... # the longest first

.PHONY: test-faults
test-faults: engines kafka ## Kill processes at random and count (KILLS, SEED to repeat a run)
	go test -count 1 -timeout 2h -run '^Test(Faults|Outage|Consumer|Metamorphic|JobsSurviveKills)' -v ./cmd/topk \
		-faults.kills=$(KILLS) -faults.outage=$(OUTAGE) -faults.steps=$(STEPS) -faults.seed=$(SEED)

.PHONY: simulate-refresher
simulate-refresher: ## Prove the charts of simulated days exact, and say what they cost (DAYS, PLAYS a day, EXPONENT)
	go run ./refresher/simulation --days $(DAYS) --plays $(PLAYS) --exponent $(EXPONENT) $(ARGS)

SOAK = go test -count 1 -timeout 6h -run '^TestSoak$$' -v ./cmd/topk -faults.seed=$(SEED) -soak.cities=$(CITIES) -soak.songs=$(SONGS)

.PHONY: soak
soak: engines ## Watch charts under load: wrong ones, age, cost (RATE, MINUTES, CITIES, SONGS, PRELOAD, SEED)
	$(SOAK) -soak.rate=$(RATE) -soak.minutes=$(MINUTES) -soak.preload=$(PRELOAD)

.PHONY: soak-backfill
soak-backfill: engines ## The same, while plays of the last 30 days are backfilled (PLAYS, RATE, MINUTES, CITIES, SONGS, SEED)
	$(SOAK) -soak.rate=$(RATE) -soak.minutes=$(MINUTES) -soak.preload=$(PRELOAD) -soak.backfill=$(PLAYS)

.PHONY: bench-backfill
bench-backfill: engines ## Backfill a Parquet file of PLAYS, against a plain INSERT SELECT of the same
	go test -run '^$$' -bench Backfill -benchtime 3x -timeout $(TEST_TIMEOUT) ./backfill -backfill.rows=$(PLAYS)

.PHONY: bench-recompute
bench-recompute: engines ## The same, and then with a refresher that computes every chart anew
	$(SOAK) -soak.rate=$(RATE) -soak.minutes=$(MINUTES) -soak.preload=$(PRELOAD) -soak.recompute

.PHONY: bench-cold-start
bench-cold-start: engines ## Time until charts are served from a full log, and from an empty Redis (PLAYS, CITIES, SONGS)
	$(SOAK) -soak.minutes=0 -soak.preload=$(PLAYS)

.PHONY: bench-adhoc
bench-adhoc: engines ## How long charts take that are not kept, by kind and window (PLAYS a day, SONGS, CITIES, DAYS)
	go test -count 1 -timeout 2h -run '^TestAdhocLatency$$' -v ./queries -adhoc.plays=$(PLAYS) -adhoc.songs=$(SONGS) \
		-adhoc.cities=$(CITIES) -adhoc.days=$(DAYS) -adhoc.rounds=20

.PHONY: lint
lint: ## Check format, go vet, staticcheck and, where it is installed, shellcheck
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [[ -n $$unformatted ]]; then printf 'not as gofmt would have it:\n%s\n' "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh .ci/run; fi

.PHONY: bench
bench: engines ## Run every benchmark
	go test -run '^$$' -bench . -benchtime $(BENCH_TIME) -benchmem -timeout $(TEST_TIMEOUT) ./...

.PHONY: clean
clean: ## Remove what was built; data and fetched engines stay
	rm -rf bin

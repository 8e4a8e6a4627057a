# Highwater. Two commands for a fresh clone on a machine with rustup, gcc and make:
#
#   make demo    builds, replays a month of real flights into maintained views, and shows them moving
#   make test    builds and runs every test
#
# demo and test share one build (the dev profile, dependencies at opt-level 1), so nothing is compiled twice.
# CARGO_TARGET_DIR is respected.

CARGO ?= cargo
TARGET_DIR ?= $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help setup build release demo serve test unit scripts oracle tpch fuzz crash bench bench-tpch bench-serving fmt clippy ci

help:
	@sed -n 's/^\([a-z-]*\):.*## */\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## installs what a build and the tests need and this machine lacks
	@docker/setup.sh

build: setup ## the program as the tests and the demo use it
	$(CARGO) build

release: setup ## the program as it is shipped: optimised, stripped
	$(CARGO) build --release
	strip -o $(TARGET_DIR)/release/highwater.stripped $(TARGET_DIR)/release/highwater
	@ls -l $(TARGET_DIR)/release/highwater.stripped | awk '{printf "%.0f MB stripped\n", $$5 / 1048576}'

demo: build ## real flights, maintained views, psql beside it; DEMO="--speed 3600" for flags
	@$(TARGET_DIR)/debug/highwater demo $(DEMO)

serve: build ## a server on 127.0.0.1:4566
	@$(TARGET_DIR)/debug/highwater serve

test: setup ## every test
	$(CARGO) test

unit: setup ## the tests beside the code
	$(CARGO) test --lib

scripts: setup ## the SQL scripts; HW_SCRIPT=join for some of them
	$(CARGO) test --test sql scripts_with

oracle: setup ## ten minutes of random changes against every view
	HW_ORACLE_SECONDS=$${HW_ORACLE_SECONDS:-600} $(CARGO) test --test sql oracle -- --nocapture

fuzz: setup ## random queries for SECONDS=600; HW_SEED replays
	HW_FUZZ_SECONDS=$(or $(SECONDS),600) HW_FUZZ_FINDINGS=10 $(CARGO) test --test sql fuzz -- --nocapture

crash: setup ## kill -9 again and again for SECONDS=600, with every kind of state; HW_SEED replays
	HW_CRASH_SECONDS=$(or $(SECONDS),600) $(CARGO) test --test sql crash:: -- --nocapture

tpch: setup ## the 22 queries of TPC-H as views; HW_TPCH_SF=0.1 for more rows
	$(CARGO) test --test sql tpch -- --nocapture

bench: setup ## Nexmark and freshness, as a Markdown table; BENCH="--query q5" for one
	$(CARGO) bench --bench nexmark -- $(BENCH)

bench-tpch: setup ## TPC-H as maintained views; BENCH="--query q5 --sf 0.1" for one
	$(CARGO) bench --bench tpch -- $(BENCH)

bench-serving: setup ## point lookups and a scan beside PostgreSQL
	$(CARGO) bench --bench serving -- $(BENCH)

fmt: ## formats the code
	$(CARGO) fmt

clippy: setup ## no warning is left
	$(CARGO) clippy --all-targets -- -D warnings

ci: ## what CI runs
	.ci/run

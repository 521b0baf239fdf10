# The commands of the project. Each prepares .venv itself; `make` without a target lists them.

EXPERIMENT ?=
CLUSTER ?= local
# Variables of another environment must not take effect; compiled modules halve the time of every later start.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

SETUP = @PYTHON='$(PYTHON)' scripts/setup.sh
BIN = .venv/bin
PACKAGES = qsd ablations analysis
ABLATE_OPTIONS = $(if $(EXPERIMENT),--experiment $(EXPERIMENT))
NEEDS_NAME = @test -n "$(NAME)" || { echo "error: which sweep? make $@ NAME=$(firstword $(SWEEPS))  (one of: $(SWEEPS))" >&2; exit 2; }
SWEEPS = $(basename $(notdir $(wildcard sweeps/*.yaml)))

.DEFAULT_GOAL := help
.PHONY: help demo check test sweep resume plan dryrun status table show hps-emoji emoji-world bench-train bench-onpolicy bench-device bench-score bench-generate bench-select lint types lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ## a small real ablation on the emoji world, then its table and figures
	$(SETUP)
	@$(BIN)/ablate run demo $(DEMO_OPTIONS)

plan: ## what a sweep would run, what is done, what the rest costs, what it can detect: NAME= [EXPERIMENT=] [CLUSTER=local]
	$(NEEDS_NAME)
	$(SETUP)
	@$(BIN)/ablate plan $(NAME) $(ABLATE_OPTIONS) --cluster $(CLUSTER)

dryrun: ## run a few steps of each shape of a sweep on this machine: time and memory per stage: NAME= [EXPERIMENT=]
	$(NEEDS_NAME)
	$(SETUP)
	@$(BIN)/ablate dryrun $(NAME) $(ABLATE_OPTIONS)

sweep: ## run or continue a sweep, then print its table: NAME= [EXPERIMENT=] [CLUSTER=local] [CANARY=1]
	$(NEEDS_NAME)
	$(SETUP)
	@$(BIN)/ablate run $(NAME) $(ABLATE_OPTIONS) --cluster $(CLUSTER) $(if $(CANARY),--canary)

resume: ## continue a sweep where it was last launched. On a cluster exactly the missing stages are submitted: NAME=
	$(NEEDS_NAME)
	$(SETUP)
	@$(BIN)/ablate resume $(NAME)

status: ## the progress of a sweep: NAME= [EXPERIMENT=]
	$(NEEDS_NAME)
	$(SETUP)
	@$(BIN)/ablate status $(NAME) $(ABLATE_OPTIONS)

table: ## the results of a sweep so far, at any time: NAME= [EXPERIMENT=]
	$(NEEDS_NAME)
	$(SETUP)
	@$(BIN)/ablate table $(NAME) $(ABLATE_OPTIONS)

show: ## the question of a sweep, the answer so far in a few sentences, and what is missing: NAME= [EXPERIMENT=]
	$(NEEDS_NAME)
	$(SETUP)
	@$(BIN)/ablate show $(NAME) $(ABLATE_OPTIONS)

hps-emoji: ## train the emoji world's HPS scorer again from its choices, and test it with the others (a minute or two)
	$(SETUP)
	@$(BIN)/qsd train-reward -r experiments/hps_emoji.yaml -o runs/rewards/hps_emoji
	@$(BIN)/qsd accuracy hps_emoji pick_emoji image_reward_emoji clip_emoji aesthetic_emoji judge_emoji -d experiments/emoji/assets/choices/test.json

emoji-world: ## rebuild the emoji world from the icon sets (hours on a CPU, needs npm)
	$(SETUP)
	@$(BIN)/python -m experiments.emoji.build

check: ## lint, types, and the tests that are not slow: before every commit: [ARGS=]
	$(SETUP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q -m "not slow" --ignore tests/slurm $(ARGS)

test: ## all tests, four at a time, since many wait for other processes: [ARGS=]
	$(SETUP)
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

bench-train: ## the training loop compared with a step of the public Diffusion-DPO script; fails below twice its speed: [ARGS=]
	$(SETUP)
	@$(BIN)/python -m scripts.bench.train --least 2 --out benchmarks/train_cpu.md $(ARGS)

bench-onpolicy: ## an update of TailorPO compared with a loop without batches; fails below twice its speed: [ARGS=]
	$(SETUP)
	@$(BIN)/python -m scripts.bench.on_policy --least 2 --out benchmarks/on_policy_cpu.md $(ARGS)

bench-device: ## training by kernels and micro-batch, the logits of step 0, a profile: [ARGS=]
	$(SETUP)
	@$(BIN)/python -m scripts.bench.train_device $(ARGS)

bench-score: ## speed of scoring: from files, of the model alone, of a loop per image; writes benchmarks/score_*.md: [ARGS=]
	$(SETUP)
	@$(BIN)/python -m scripts.bench.score --out benchmarks $(ARGS)

bench-generate: ## images of the evaluation per second, as it was and by setting; writes benchmarks/generate_cpu.md: [ARGS=]
	$(SETUP)
	@$(BIN)/python -m scripts.bench.generation --out benchmarks/generate_cpu.md $(ARGS)

bench-select: ## time and memory of selecting from a million scored pairs; writes benchmarks/select_cpu.md
	$(SETUP)
	@$(BIN)/python scripts/bench/selection.py --out benchmarks/select_cpu.md

lint: ## ruff: rules and format
	$(SETUP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: ## mypy, strict
	$(SETUP)
	@$(BIN)/mypy

lock: ## update requirements.lock after a change in pyproject.toml; UPGRADE=1 takes the newest versions
	$(SETUP)
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --group setup --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --quiet $(if $(UPGRADE),--upgrade) -o requirements.lock
	$(SETUP)

clean: ## remove environments and caches; runs/ is kept
	@rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find $(PACKAGES) experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +

# `make demo` and `make test` need Python >= 3.11 and make; everything else goes into .venv.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo warm test lint types unit quick sam2

# Seed and folder of the demo: make demo SEED=1 DEMO=runs/demo1
SEED ?= 0
DEMO ?= runs/demo
# Tiny models are as fast on one thread, and two threads collapse where cores are shared.
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE ?= 1

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PACKAGES := commands datamodules dialogues evaluation lightning_modules models rewards
#: processes that test at once
JOBS ?= 2
CODE := thinkseg.py torchvision_shim.py $(PACKAGES)
TORCH := $(shell sed -n 's/^torch==//p' constraints/cpu.txt)
CPU_INDEX := https://download.pytorch.org/whl/cpu

help:  ## show this list
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.12 python3.13 python3.11; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "creating $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo "Expected Python 3.11 or newer as python3, python3.12, python3.13 or python3.11, but found none;" \
	    "install one, or name it: make PYTHON=/path/to/python" >&2; exit 1

# torch comes first, because what follows would bring its CUDA build. Without a GPU the CPU build is taken from where
# pip looks anyway (a folder of wheels, a mirror), and only if it is not there from PyTorch's own index.
$(INSTALLED): setup.cfg pyproject.toml constraints/cpu.txt | $(BIN)/python
	@if nvidia-smi -L >/dev/null 2>&1 || [ "$$(uname -s)" != Linux ]; then \
	    $(BIN)/pip install torch==$(TORCH) -c constraints/cpu.txt; \
	elif ! $(BIN)/pip install -q --no-deps torch==$(TORCH)+cpu 2>/dev/null; then \
	    echo "pip offers no CPU build of torch $(TORCH); taking it from $(CPU_INDEX)"; \
	    $(BIN)/pip install --no-deps --index-url $(CPU_INDEX) torch==$(TORCH)+cpu; \
	fi
	$(BIN)/pip install -c constraints/cpu.txt -e '.[test]'
	@touch $@

install: $(INSTALLED)  ## create .venv and install what is missing

demo: $(INSTALLED) data/demo/meta_expressions_valid_.json data/demo_test/meta_expressions_valid_.json  ## train and test on the toy benchmark, and print a table
	$(BIN)/thinkseg model -c configs/demo/model.yaml --seed $(SEED) --out $(DEMO)/untrained/hf
	$(call stage,test,untrained,$(DEMO)/untrained)
	$(call stage,fit,sft,assets/warm_start,-c configs/demo/sft.yaml) --data.seed $(SEED)
	$(call stage,test,sft,$(DEMO)/sft)
	$(call stage,fit,grpo,$(DEMO)/sft,-c configs/demo/grpo.yaml) --data.seed $(SEED) --model.seed $(SEED)
	$(call stage,test,grpo,$(DEMO)/grpo)
	@$(BIN)/thinkseg compare $(foreach run,untrained sft grpo,$(run)=$(DEMO)/$(run)/test.json) --out $(DEMO)/summary.json
	@echo "pictures: $(DEMO)/grpo/pictures; curves: $(BIN)/tensorboard --logdir $(DEMO)"

WARM_DATA := $(foreach data,one two three,data/warm_$(data)/meta_expressions_valid_.json)

warm: $(INSTALLED) $(WARM_DATA)  ## make assets/warm_start anew: what the demo's fine-tuning starts from
	$(BIN)/thinkseg model -c configs/demo/model.yaml --out runs/warm/untrained/hf
	$(call stage,fit,one,runs/warm/untrained,$(WARM)) --data.train.dataset.root data/warm_one \
	    --trainer.max_steps 1000 --model.optimizer.decay_steps 0
	$(call stage,fit,two,runs/warm/one,$(WARM)) --data.train.dataset.root data/warm_two \
	    --trainer.max_steps 6000 --model.optimizer.decay_steps 2000
	$(call stage,fit,three,runs/warm/two,$(WARM)) --data.train.dataset.root data/warm_three
	mkdir -p assets/warm_start && cp -r runs/warm/three/hf assets/warm_start/

warm: DEMO := runs/warm
WARM := -c configs/demo/sft.yaml -c configs/demo/warm_start.yaml

# A stage: command, its run's name, the folder whose model it starts from, its own configuration.
stage = $(BIN)/thinkseg $(1) -c configs/demo/base.yaml $(4) --seed_everything $(SEED) \
	--trainer.default_root_dir $(DEMO)/$(2) --model.reasoner.pretrained $(3)/hf

data/demo/meta_expressions_valid_.json: | $(INSTALLED)
	$(call shapes,--objects 2 --videos 1500 --valid_videos 24 --seed 0)

data/demo_test/meta_expressions_valid_.json: | $(INSTALLED)
	$(call shapes,--objects 2 --videos 1 --valid_videos 150 --seed 1)

data/warm_one/meta_expressions_valid_.json: | $(INSTALLED)
	$(call shapes,--objects 1 --videos 1200 --valid_videos 1 --seed 1000 --sampled_frames 1)

data/warm_two/meta_expressions_valid_.json: | $(INSTALLED)
	$(call shapes,--objects 2 --videos 3000 --valid_videos 1 --seed 2000 --sampled_frames 1)

data/warm_three/meta_expressions_valid_.json: | $(INSTALLED)
	$(call shapes,--objects 2 --videos 3000 --valid_videos 1 --seed 3000)

shapes = $(BIN)/thinkseg data shapes --root $(@D) --preset easy $(1)

test: lint types unit  ## run every check: ruff, mypy, pytest with doctests, configs, import arrows

lint: $(INSTALLED)  ## ruff: style, docstrings, annotations, formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)  ## mypy --strict on the packages
	$(BIN)/mypy --strict $(CODE)

unit: $(INSTALLED)  ## pytest with doctests and coverage
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --doctest-modules --cov --cov-report term $(CODE) tests

quick: $(INSTALLED)  ## the tests that take less than ten seconds each
	$(BIN)/python -m pytest -q -m 'not slow' tests

# Without isolation, because the package is built against torch, and pip would fetch another one for that; the compiled
# extension needs nvcc and only fills holes in masks.
sam2: $(INSTALLED)  ## add the package sam2, which opens SAM 2's original checkpoints, and test it
	SAM2_BUILD_CUDA=0 $(BIN)/pip install --no-build-isolation -c constraints/sam2.txt -e '.[sam2]'
	$(BIN)/python -m pytest tests/models/test_sam2_package.py

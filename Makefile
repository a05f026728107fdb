# Everything lives in .venv. A bare machine needs Python 3.11 to 3.13, make and, on Debian or Ubuntu, these packages:
APT_PACKAGES = python3-venv libegl1 libgl1 libglib2.0-0 libgomp1 libice6 libidn2-0 libsm6 libusb-1.0-0 libx11-6 libxcb1 libxext6
# Only for tests: a compiler for a library that shifts the clock, and a database.
TEST_PACKAGES = gcc libc6-dev postgresql

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
BENCH_STAMP := $(VENV)/.installed-bench
TRAIN_STAMP := $(VENV)/.installed-train
NETWORKS_STAMP := .venv-networks/.installed
POLICIES_STAMP := .venv-policies/.installed
RLINF_STAMP := .venv-rlinf/.installed
# Python compiles what it imports; pip would compile all that is never imported, too.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint requirements.lock
# The newest that package indexes, not only PyTorch's own, offer as a build for CPUs as well, which pip prefers. With
# === the lock is made for the one with CUDA: it has more dependencies.
TORCH := 2.13.0
WORKERS ?= 2
OUT ?= bundles
BUILD_HALL = $(BIN)/splatyard build scene_cards/samples/hall --card scene_cards/hall.yaml --out $(OUT)

# Tests start hundreds of interpreters; where nothing may be kept, each compiles Prefect and SciPy anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-train test test-slow test-all test-own test-foreign lint types test-soak docs site docs-images bench bench-batch bench-coverage bench-splat bench-geometry bench-formats bench-publish bench-kernels bench-places bench-train wheel-test format lock apt-packages clean

help: ## show this help
	@echo "apt-get install -y $(APT_PACKAGES)"
	@echo "is all that a bare Debian or Ubuntu needs; then:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install splatyard with the simulator, dependencies pinned; no PyTorch

# A venv without pip is incomplete (Debian without python3-venv) and is recreated.
$(STAMP): pyproject.toml requirements.lock
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "on Debian or Ubuntu: apt-get install -y $(APT_PACKAGES)"; exit 1; }
	$(INSTALL) --editable '.[sim]'
	@touch $@

# torchvision is built for CPUs only on PyTorch's own index, and fits only a PyTorch with CUDA elsewhere.
$(DEV_STAMP): $(STAMP)
	$(INSTALL) --editable '.[dev]' 'torch===$(TORCH)'
	@touch $@

$(TRAIN_STAMP): $(STAMP)
	@echo "installing PyTorch, rsl-rl, TensorBoard and ONNX into $(VENV): 0.9 GB and half a minute where the package index has"
	@echo "a build of PyTorch for CPUs, else 6 GB and some minutes, most of it CUDA's libraries. Without a GPU, take the"
	@echo "address of the CPU index from pytorch.org's install page: make demo-train PIP_EXTRA_INDEX_URL=ADDRESS"
	$(INSTALL) --editable '.[train]'
	@touch $@

# Interpreters for what conflicts with our packages: a network, LeRobot, RLinf; their own packages take precedence over ours.
.venv-%/.installed: tests/%.txt $(DEV_STAMP)
	$(BIN)/python -m venv --clear --without-pip .venv-$*
	$(BIN)/python -m pip --python .venv-$*/bin/python install --quiet --disable-pip-version-check --no-compile --no-deps \
		--requirement tests/$*.txt
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
		> $$(.venv-$*/bin/python -c 'import site; print(site.getsitepackages()[0])')/ours.pth
	@touch $@

demo: $(STAMP) ## show a robot in a finished scene; meanwhile build the sample capture, and film robots that are driven in it
	@SPLATYARD_BUNDLES=$(OUT) $(BIN)/splatyard demo & page=$$!; trap "kill $$page" EXIT; \
	$(BUILD_HALL) && \
	SPLATYARD_BUNDLES=$(OUT) $(BIN)/splatyard sim hall --envs 4 --seconds 30 --follow --video $(OUT)/hall.mp4
	@echo "in the browser: $(BIN)/splatyard sim $(OUT)/hall/1.0.0 --view; to train a policy there: make demo-train"

demo-train: $(TRAIN_STAMP) ## install PyTorch, and train a policy that sees in the bundle of `make demo`
	$(BUILD_HALL)
	SPLATYARD_BUNDLES=$(OUT) $(BIN)/splatyard train navigate --scene hall --evaluate 100

# In the order of tests/conftest.py; all of a file's tests by one worker, which makes what they share once.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 20

test: $(DEV_STAMP) ## run the test suite without slow and soak tests: a quarter of an hour on two cores
	$(PYTEST) -m 'not slow and not soak'

test-slow: $(NETWORKS_STAMP) $(POLICIES_STAMP) $(RLINF_STAMP) ## test formats from files to bundle, clusters, servers, long trainings: half an hour
	$(PYTEST) -m 'slow and not soak'

test-all: test-own test-foreign ## both of them in one run, which collects tests and waits for the last one once

# Three tests need other interpreters: `make --jobs 2 test-all` installs them beside all other tests.
test-own: $(DEV_STAMP)
	$(PYTEST) -m 'not soak and not foreign'

test-foreign: $(NETWORKS_STAMP) $(POLICIES_STAMP) $(RLINF_STAMP)
	$(BIN)/python -m pytest -m foreign tests/poses/test_network_workers.py tests/sim/test_maniskill.py tests/sim/policies/test_lerobot.py

test-soak: $(DEV_STAMP) ## fuzz each format with 500 captures; kill servers and processes, fill disks, shift clocks: an hour or two
	$(BIN)/python -m pytest -m soak

lint: $(DEV_STAMP) ## run ruff and import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: $(DEV_STAMP) ## run pyright
	$(BIN)/pyright

docs: $(DEV_STAMP) ## check that every command, snippet and link in README and docs works
	$(BIN)/python -m pytest tests/test_docs.py

site: $(DEV_STAMP) ## build the documentation as a web site, in site/; `mike deploy VERSION` keeps several versions
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs-images: $(DEV_STAMP) ## draw the images of README and docs anew, from the bundle of `make demo`
	$(BIN)/python scripts/docs_images.py $(OUT)/hall/1.0.0
	$(BIN)/python -m benchmarks.export_images $(OUT)/hall/1.0.0

bench: $(DEV_STAMP) ## measure the figures of docs/benchmarks/
	$(BIN)/python benchmarks/run.py --write
	$(BIN)/python benchmarks/run.py --cpu avx2 --write

$(BENCH_STAMP): $(DEV_STAMP)
	$(INSTALL) --editable '.[bench]'
	@touch $@

bench-splat: $(BENCH_STAMP) ## measure rendering, gradients and training of splats, compared with peers
	$(BIN)/python benchmarks/splat.py --write
	$(BIN)/python benchmarks/splat_curves.py

bench-coverage: $(DEV_STAMP) ## fit the coverage map, and evaluate it on held-out scenes
	$(BIN)/python benchmarks/coverage.py --write

bench-geometry: $(DEV_STAMP) ## measure depth and meshes, compared with peers
	$(BIN)/python benchmarks/geometry.py --write

bench-formats: $(DEV_STAMP) ## measure every reader and its builds
	$(BIN)/python benchmarks/formats.py --write

bench-publish: $(DEV_STAMP) ## measure registries and the gallery, with the bundle of `make demo`
	$(BIN)/python benchmarks/registry.py $(OUT)/hall/1.0.0 --write
	$(BIN)/python benchmarks/gallery.py $(OUT)/hall/1.0.0 --write

bench-kernels: $(BENCH_STAMP) ## measure the hot kernels and simulators, with AVX-512 and without, in the demo bundle
	$(BIN)/python benchmarks/kernels.py $(OUT)/hall/1.0.0 --write
	$(BIN)/python benchmarks/kernels.py $(OUT)/hall/1.0.0 --cpu avx2 --write
	$(BIN)/python benchmarks/simulation.py $(OUT)/hall/1.0.0 --write
	$(BIN)/python benchmarks/simulation.py $(OUT)/hall/1.0.0 --cpu avx2 --write

bench-places: $(DEV_STAMP) ## build eight places that today's date draws, and measure how true they are: an hour
	$(BIN)/python benchmarks/places.py --write

bench-batch: $(DEV_STAMP) ## measure batches: planning, Prefect's overhead, throughput
	$(BIN)/python benchmarks/batch.py --write

bench-train: $(DEV_STAMP) ## train and evaluate policies in the demo bundle: an hour
	$(BIN)/python benchmarks/training.py $(OUT)/hall/1.0.0 --write

wheel-test: $(DEV_STAMP) ## build the wheel, install it into a bare venv, run the doctor and a tiny build
	sh scripts/wheel_test.sh $(BIN)/python

format: $(DEV_STAMP) ## format and fix the code with ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(DEV_STAMP) ## update the pinned dependencies
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --upgrade-package 'torch===$(TORCH)' --all-extras --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
		--output-file requirements.lock pyproject.toml

apt-packages: ## print the required Debian packages, including the tests'
	@echo $(APT_PACKAGES) $(TEST_PACKAGES)

clean: ## remove .venv, caches and build leftovers; bundles stay
	rm -rf $(VENV) .venv-networks .venv-policies .venv-rlinf build dist site *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# Each target makes .venv when it is missing: nothing else is needed on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo explore gallery test tests test-slow lint
.DELETE_ON_ERROR:

# Trains a complete small study on embedded data and logs it to mlflow.db.
demo: .venv/installed
	$(BIN)/python -m trainer --config configs/digits.yaml
	@echo
	@echo "The study is in mlflow.db. To look at it in MLflow's UI:"
	@echo "  $(BIN)/python -m mlflow_server"
	@echo "To see what the paper would say of it:"
	@echo "  make explore"

# Opens the explorer on mlflow.db, or on the store that MLFLOW_TRACKING_URI names.
explore: .venv/installed
	$(BIN)/python -m explorer

# Opens the explorer on the studies of docs/gallery, which were trained before.
gallery: .venv/installed
	$(BIN)/python -m benchmarks.gallery --unpack .jackpot/gallery
	MLFLOW_TRACKING_URI=sqlite:///.jackpot/gallery/mlflow.db $(BIN)/python -m explorer

# Side by side: tests wait for servers and browsers, in which time the others go on.
test: .venv/installed
	$(MAKE) --no-print-directory -j 2 lint tests

# Their processes read what the first has compiled, whatever the shell says of that.
tests: .venv/installed
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder -m "not slow"

# Real CIFAR-10 (set TFDS_DATA_DIR to a folder that holds it), kills, the largest networks.
test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow --timeout 3600

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

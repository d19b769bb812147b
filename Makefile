# The words of this project: setup check test run bench proof. Each does what it needs by itself.
PYTHON ?= python3
BIN := .venv/bin
# How many tests run side by side: with two processors four, since half of them wait.
TESTERS ?= 4

.PHONY: setup dev check test run bench opponents proof docs languages lock

# Debian ships Python without ensurepip; the system's pip then fills the environment from outside.
define environment
	@echo "Installing what is needed into .venv (once, about half a minute) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv 2>/dev/null \
		|| { rm -rf .venv; $(PYTHON) -m venv --without-pip .venv; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 && PIP="$(BIN)/python -m pip" \
		|| PIP="$(PYTHON) -m pip --python $(BIN)/python"; \
	$$PIP install --quiet --disable-pip-version-check --require-hashes -r $(1) \
	&& $$PIP install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endef

setup: .venv/ready  ## the environment that `make run` needs

dev: .venv/ready-dev  ## the environment that checks, tests and benches need

.venv/ready: requirements.lock pyproject.toml hatch_build.py $(wildcard src/pillarbox/locales/*/LC_MESSAGES/*.po)
	$(call environment,requirements.lock)
	@touch $@

.venv/ready-dev: requirements-dev.lock pyproject.toml hatch_build.py $(wildcard src/pillarbox/locales/*/LC_MESSAGES/*.po)
	$(call environment,requirements-dev.lock)
	@touch .venv/ready $@

run: setup  ## serve on http://127.0.0.1:8000, with SQLite and a local Maildir unless .env says more
	@$(BIN)/pillarbox serve

check: dev  ## style, types, floors, and advisories about what is installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m tests.audit

test: dev  ## every test but the full-size proofs
	@sh tests/programs.sh
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -m "not full" --numprocesses $(TESTERS) --dist worksteal

proof: dev  ## the proofs at full size; their tables go into bench/results
	@sh tests/programs.sh proofs
	$(BIN)/pytest -m full -s --timeout 3600

bench: dev opponents  ## how fast, against what: tables go into bench/results
	$(BIN)/python -m bench.run
	$(BIN)/python -m bench.queues

opponents: .venv/bench/ready  ## the queues that we are measured against, in an environment of their own

.venv/bench/ready: bench/requirements.lock | dev
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv/bench
	@$(BIN)/uv pip install --quiet --python .venv/bench --require-hashes -r $<
	@touch $@

docs: dev  ## write docs/settings.md anew from the settings themselves
	$(BIN)/python docs/make_settings.py

languages: dev  ## gather every sentence into the catalogues, then compile them
	$(BIN)/pybabel -q extract --mapping babel.cfg --keyword N_ --keyword translate:2 --add-location file --sort-by-file \
		--omit-header --width 110 --output src/pillarbox/locales/pillarbox.pot src/pillarbox
	$(BIN)/pybabel -q update --domain pillarbox --input-file src/pillarbox/locales/pillarbox.pot \
		--output-dir src/pillarbox/locales --no-fuzzy-matching --ignore-pot-creation-date --ignore-obsolete --width 110
	$(BIN)/python hatch_build.py

lock: dev  ## pin what pyproject.toml and requirements*.in allow today
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" pyproject.toml requirements.in -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
		--extra dev pyproject.toml requirements.in requirements-dev.in -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
		bench/requirements.in -o bench/requirements.lock

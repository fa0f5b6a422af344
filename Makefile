# iotops.fleet: `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
PLAY := $(BIN)/ansible-playbook
LOCAL := $(or $(IOTOPS_LOCAL_DIR),$(CURDIR)/.local)

.PHONY: help
help: ## This list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- set-up -----------------------------------------------------------------------------------------------------

.PHONY: packages
packages: ## Install the system packages of packages.apt that are missing
	@scripts/packages packages.apt

.PHONY: setup
setup: $(VENV)/.ready ## System packages and .venv with everything that the other targets use

$(VENV)/.ready: requirements/controller.lock pyproject.toml $(wildcard */pyproject.toml device_app/*/pyproject.toml) packages.apt
	@scripts/packages packages.apt
	scripts/venv $(PYTHON) $(VENV)
	touch $@

.PHONY: lock
lock: setup ## Resolve the dependencies anew and write requirements/*.lock
	scripts/lock

# ---- the two commands -------------------------------------------------------------------------------------------

.PHONY: release
release: local-up ## A real release on this machine: build, UI-test, sign, publish, roll out to the beta ring, report
	@$(PLAY) release.yml -i beta
	echo "==> fridge-beta-3 was switched off all the while. Switching it on: it reads its goal from the hub and catches up."
	$(PLAY) playbooks/local_power.yml -e power_device=fridge-beta-3 -e power_state=on
	$(PLAY) playbooks/local_panels.yml -i beta
	@scripts/say-where reports

.PHONY: test
test: setup lint ## Everything that must pass before a change lands (under 15 minutes)
	# side by side: they wait more than they compute
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target unit integration chaos-sample
	$(MAKE) --no-print-directory e2e

# ---- the local services -----------------------------------------------------------------------------------------

.PHONY: local-up
local-up: setup ## Start hub, file server, collector and virtual devices; logs in .local/log
	$(PLAY) playbooks/local.yml

.PHONY: local-down
local-down: ## Stop them all; what they know stays in .local
	@scripts/local-down "$(LOCAL)"

.PHONY: local-status
local-status: ## What runs here
	@if [ -S "$(LOCAL)/supervisor.sock" ]; then $(BIN)/supervisorctl -c "$(LOCAL)/supervisord.conf" status || true; else echo "nothing runs here"; fi

.PHONY: crash-demo
crash-demo: setup ## Crash the app of a virtual device on purpose and follow the crash into the report
	$(PLAY) playbooks/crash_demo.yml -i beta
	@scripts/say-where reports

# ---- the parts of `make test` -----------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## ruff, mypy, yamllint, ansible-lint, what roles and the changelog say of themselves
	ruff check .
	ruff format --check .
	mypy -p fridge_agent -p local_hub -p fleet_telemetry -p fridge
	MYPYPATH=collections mypy --namespace-packages --explicit-package-bases -p ansible_collections.iotops.fleet.plugins
	yamllint --strict .
	ansible-lint --profile production
	# each role's specification equals its defaults, and its README says the same
	pytest -q tests/unit/roles
	scripts/changelog --check

.PHONY: unit
unit: setup ## Fast tests of every part
	pytest tests/unit tests/update device_app/tests/agent device_app/tests/fridge telemetry/tests
	$(MAKE) --no-print-directory ui-test

.PHONY: ui-test
ui-test: setup ## The panel by touch, and as it should look; reports/ui/junit.xml and screenshots beside it
	mkdir -p reports/ui
	rm -rf reports/ui/screenshots
	QT_QPA_PLATFORM=offscreen FRIDGE_SCREENSHOTS=$(CURDIR)/reports/ui/screenshots \
		pytest -p pytestqt.plugin --junitxml=reports/ui/junit.xml device_app/tests/ui

.PHONY: ui-golden
ui-golden: setup ## Take how the panel looks now as how it should look; git shows what changed
	QT_QPA_PLATFORM=offscreen pytest -q -p pytestqt.plugin device_app/tests/ui/test_golden.py --update-golden

.PHONY: panel
panel: setup ## Open the fridge on this desk, with a prompt to play its kitchen
	@scripts/panel "$(LOCAL)/desk"

.PHONY: kiosk-test
kiosk-test: setup ## The built app on Debian's kernel with a screen and a touchscreen, in a virtual machine (QEMU)
	@scripts/kiosk-test

.PHONY: bench-app
bench-app: setup ## What the app costs, as ratios to a bare QML window: first frame, memory; two simulated days
	PYTHONPATH=tests python -m bench.bench_app

.PHONY: integration
integration: setup ## Modules and SDKs against the local hub; a file at a time in each of two processes
	pytest --numprocesses=2 --dist=loadfile local_hub/tests tests/integration

.PHONY: e2e
e2e: setup ## Whole releases on a clone of this checkout, with faults
	pytest tests/e2e

.PHONY: chaos-sample
chaos-sample: setup ## A sample of the chaos that updates must survive
	@scripts/packages packages-chaos.apt
	pytest tests/chaos

.PHONY: chaos-update
chaos-update: setup ## All of it: kills, power cuts, full disks, lying servers; half an hour, as root; prints the counts
	@scripts/packages packages-chaos.apt
	pytest tests/chaos --chaos=full

.PHONY: bench-update
bench-update: setup ## What an update costs, as ratios: patch, check, memory, blind time
	@scripts/packages packages-chaos.apt
	PYTHONPATH=collections:tests python -m bench.bench_update

.PHONY: chaos-hub
chaos-hub: setup ## kill -9 and power cuts of the local hub at random moments under load, 50 of each; prints the counts
	@scripts/packages packages-chaos.apt
	pytest local_hub/tests/chaos --rounds=50 -s

.PHONY: fuzz-hub
fuzz-hub: setup ## The local hub's parsers, 100,000 examples each; hours
	pytest local_hub/tests/fuzz --hypothesis-profile=fuzz --timeout=0

.PHONY: bench-hub
bench-hub: setup ## What the local hub costs, as ratios to Mosquitto, azure-iot-hub and SQLite
	@scripts/packages packages-bench.apt
	PYTHONPATH=collections:tests python -m bench.bench_hub

.PHONY: conformance-tuf
conformance-tuf: setup ## The agent's TUF client in theupdateframework/tuf-conformance, a checkout in $$TUF_CONFORMANCE
	@scripts/packages packages-chaos.apt
	scripts/conformance-tuf

.PHONY: conformance
conformance: setup ## Microsoft's end-to-end tests against the local hub, a checkout in $$AZURE_IOT_SDK_PYTHON; as root
	@scripts/packages packages-conformance.apt
	scripts/conformance-iothub

.PHONY: conformance-node
conformance-node: setup ## Microsoft's SDKs for Node against the local hub
	@scripts/packages packages-node.apt
	python tests/conformance/node_clients.py

.PHONY: conformance-node-suite
conformance-node-suite: setup ## Microsoft's end-to-end tests for Node against the local hub, a checkout in $$AZURE_IOT_SDK_NODE
	@scripts/packages packages-node.apt
	python tests/conformance/node_suite.py

.PHONY: molecule
molecule: setup ## The roles in real containers with systemd (podman)
	scripts/molecule

# ---- the collection, as its users get it ------------------------------------------------------------------------

.PHONY: sanity
sanity: setup ## ansible-test sanity on the built collection; without containers
	scripts/sanity

.PHONY: collection
collection: setup ## Build it, install it elsewhere, play a release from another folder by its full name
	scripts/collection

.PHONY: docs
docs: setup ## The reference of modules, plugins and roles as HTML, from their own documentation; build/docs/html
	scripts/docs

.PHONY: changelog
changelog: setup ## Write CHANGELOG.md of the fragments, and check that a change has one
	scripts/changelog
	scripts/check-changelog

.PHONY: coverage
coverage: setup ## How much of plugins/ the tests run; 90 % of what changed since $$COVERAGE_BASE, or HEAD~1
	scripts/coverage

.PHONY: bench-ansible
bench-ansible: setup ## 1,000 messages by one task, against Microsoft's SDK and against a loop
	PYTHONPATH=collections:tests python -m bench.bench_ansible

.PHONY: fresh
fresh: ## The README's two commands in a clean Debian container
	scripts/fresh

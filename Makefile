# Every command of this project. `make` alone lists them.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system

# Tools that scripts/setup.sh built are found before those of the machine.
export PATH := $(CURDIR)/target/tools/bin:$(PATH):$(HOME)/.cargo/bin

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
BINARIES := hostler hostlerd hostler-agent
BASH_COMPLETIONS := $(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS := $(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS := $(PREFIX)/share/fish/vendor_completions.d

.DEFAULT_GOAL := help
.PHONY: help build release demo test check bench generate install uninstall clean

help: ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r name text; do printf '  %-11s %s\n' "$$name" "$$text"; done

build: ## every binary, the static agent too, in target/release
	@scripts/setup.sh build
	@$(MAKE) --no-print-directory release

# The daemon's build script builds the static agent and carries it; the copy beside it is for people who look.
release:
	$(CARGO) build --release --locked -p hostler -p hostlerd
	@agent=$$(ls -t target/agent/*/agent/hostler-agent 2>/dev/null | head -n 1); \
	if [ -z "$$agent" ]; then \
		echo "make: no agent in target/agent: the build script of hostlerd should have built it" >&2; exit 1; \
	fi; \
	cmp -s "$$agent" $(RELEASE)/hostler-agent || install -m 755 "$$agent" $(RELEASE)/hostler-agent
	@echo "built: $(addprefix $(RELEASE)/,$(BINARIES))"

demo: build ## set up, build, and show the main job on real work, step by step
	@HOSTLER_BIN="$(abspath $(RELEASE))" scripts/demo.sh

# The whole-node tests start the binaries of target/debug, so these are built first.
test: ## set up what is missing and pass all tests
	@scripts/setup.sh test
	$(CARGO) build --workspace --locked
	@scripts/setup-vms.sh kernel "$(abspath $(TARGET))/debug/hostler"
	$(CARGO) nextest run --workspace --locked

check: ## formatting, lints, licences and bans, tidy
	@scripts/setup.sh check
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources
	$(CARGO) run --quiet --locked -p xtask -- tidy
	$(CARGO) run --quiet --locked -p xtask -- generate --check

bench: ## measure the promised numbers of SPECIFICATION.md; ONLY=latency for one group
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory release
	@scripts/setup-vms.sh kernel "$(abspath $(RELEASE))/hostler"
	$(CARGO) run --release --locked -p hostler-bench $(if $(ONLY),-- $(ONLY))

generate: ## write the generated files again: API document, schema, man pages, completions
	$(CARGO) run --quiet -p xtask -- generate

# Nothing is enabled or started. Build as yourself (make build), then install as root.
install: ## binaries, man pages, completions, systemd units: PREFIX=/usr/local, DESTDIR=
	@for binary in $(BINARIES); do \
		[ -x $(RELEASE)/$$binary ] || { echo "make: $(RELEASE)/$$binary is missing: run make build first" >&2; exit 1; }; \
	done
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8 \
		$(DESTDIR)$(BASH_COMPLETIONS) $(DESTDIR)$(ZSH_COMPLETIONS) $(DESTDIR)$(FISH_COMPLETIONS) \
		$(DESTDIR)$(PREFIX)/share/doc/hostler $(DESTDIR)$(UNITDIR)
	install -m 755 $(addprefix $(RELEASE)/,$(BINARIES)) $(DESTDIR)$(PREFIX)/bin/
	install -m 644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 docs/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 644 packaging/completions/hostler.bash $(DESTDIR)$(BASH_COMPLETIONS)/hostler
	install -m 644 packaging/completions/_hostler $(DESTDIR)$(ZSH_COMPLETIONS)/_hostler
	install -m 644 packaging/completions/hostler.fish $(DESTDIR)$(FISH_COMPLETIONS)/hostler.fish
	install -m 644 LICENSE docs/hostler.example.toml docs/config.schema.json $(DESTDIR)$(PREFIX)/share/doc/hostler/
	@for unit in hostler.service hostler-runs.service; do \
		echo "install packaging/systemd/$$unit $(DESTDIR)$(UNITDIR)/$$unit"; \
		sed 's|/usr/local/bin/|$(PREFIX)/bin/|g' packaging/systemd/$$unit > $(DESTDIR)$(UNITDIR)/$$unit; \
		chmod 644 $(DESTDIR)$(UNITDIR)/$$unit; \
	done
	@echo "installed; nothing is enabled. To start the node: systemctl enable --now hostler.service"

uninstall: ## remove what install put there; data and configuration stay
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(BINARIES))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,$(notdir $(wildcard docs/man/*.1))) \
		$(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(wildcard docs/man/*.8)))
	rm -f $(DESTDIR)$(BASH_COMPLETIONS)/hostler $(DESTDIR)$(ZSH_COMPLETIONS)/_hostler $(DESTDIR)$(FISH_COMPLETIONS)/hostler.fish
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,hostler.service hostler-runs.service)
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/hostler

clean: ## remove everything built, except the tools
	[ ! -d $(TARGET) ] || find $(TARGET) -mindepth 1 -maxdepth 1 ! -name tools -exec rm -rf {} +

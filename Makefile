# The two commands of the README are `make demo` and `make test`.

PYTHON := .venv/bin/python
REAL_DATA := ../shared/data
# The marketplace is built by itself: its dependencies turn on features of crates that the engine is built on.
MARKET := -p millstream-marketplace --features service

.PHONY: demo test test-all check bench complete system python

## demo: the whole story on a seeded platform, or on the real data beside the checkout, with the marketplace beside it;
## on a terminal both go on until Ctrl-C
demo: system
	cargo build --workspace
	cargo build $(MARKET)
	@keep=; test -t 0 && keep=--keep; set -x; target/debug/millstream demo $$keep --marketplace target/debug/marketplace $(if $(wildcard $(REAL_DATA)),--data $(REAL_DATA))

## test: everything that must hold before a change lands
test: system python
	cargo build --workspace
	cargo test --workspace --no-fail-fast
	cargo test $(MARKET) --no-fail-fast

## test-all: as test, with long seeds
test-all: system python
	cargo build --workspace
	MILLSTREAM_SEEDS=4000 MILLSTREAM_SCHEDULES=1000 MILLSTREAM_FUZZ=50000 cargo test --workspace --no-fail-fast
	MILLSTREAM_SEEDS=4000 MILLSTREAM_SCHEDULES=1000 cargo test $(MARKET) --no-fail-fast

## check: format, lints, and the SQL that ships
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy $(MARKET) --all-targets -- -D warnings
	cargo build --workspace
	target/debug/millstream check pipelines sql

## bench: ratios against a DataFusion batch and DuckDB, the ingest path with and without the log, whole runs over JSON lines,
## growth with time, the pages
bench: python
	cargo build --workspace
	target/debug/operators
	target/debug/ingest_load
	target/debug/nexmark
	target/debug/json_lines
	target/debug/growth
	target/debug/analytics
	cargo test $(MARKET) --test it -- --ignored --nocapture speed

## complete: rewrite expected outputs; review the diff
complete: system python
	MILLSTREAM_COMPLETE=1 cargo test --workspace --no-fail-fast
	MILLSTREAM_COMPLETE=1 cargo test $(MARKET) --no-fail-fast

# What a fresh Debian machine with Rust and make lacks: poppler reads the reports in tests, Chromium walks the pages, the marketplace runs on PostgreSQL too.
system:
	@command -v pdftotext >/dev/null && command -v chromedriver >/dev/null && command -v chromium >/dev/null && command -v openssl >/dev/null && command -v python3 >/dev/null && python3 -m venv -h >/dev/null 2>&1 && command -v cc >/dev/null && test -d /usr/share/fonts/truetype/droid && test -d /usr/lib/postgresql \
	  || (apt-get update -q && apt-get install -qy --no-install-recommends build-essential chromium chromium-driver fonts-dejavu-core fonts-droid-fallback openssl poppler-utils postgresql python3 python3-venv python3-pip) \
	  || (echo "install build-essential, chromium, chromium-driver, openssl, poppler-utils, postgresql, python3 and python3-venv with your system's package manager" >&2; exit 1)

# The oracles of the tests: DuckDB, the deltalake package, and an S3 server.
python: .venv/.complete
.venv/.complete: tests/requirements.txt
	python3 -m venv .venv
	$(PYTHON) -m pip install -q --disable-pip-version-check -r tests/requirements.txt
	touch $@

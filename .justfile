# Shortcuts. `just` comes from PyPI too: pip install rust-just

# What there is
default:
    @just --justfile .justfile --list

# An environment with everything
setup:
    python3 -m venv .venv
    .venv/bin/pip install -e '.[dev]'

# All tests, or some: just test tests/framework/cli
test *arguments:
    .venv/bin/pytest {{arguments}}

# Tests without a model and without a browser: seconds
quick *arguments:
    .venv/bin/pytest -m "not model and not browser" {{arguments}}

# Style, types, boundaries
check:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    .venv/bin/lint-imports

# Tidy
format:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

# Rewrite the generated parts of the README
docs:
    .venv/bin/python tests/tools/readme.py

# The demo wiki
wiki *arguments:
    .venv/bin/unwritten demo wiki {{arguments}}

# All that CI does
ci:
    bash .ci/run

# Shortcuts for `just`. Install it with: pip install rust-just

# List the recipes
default:
    @just --justfile .justfile --list

# Create a virtual environment with all dependencies
setup:
    python3 -m venv .venv
    .venv/bin/pip install -e '.[dev]'

# Run all tests, or some: just test tests/framework/cli
test *arguments:
    .venv/bin/pytest {{arguments}}

# Run the tests that need no model and no browser
quick *arguments:
    .venv/bin/pytest -m "not model and not browser" {{arguments}}

# Check style, types and layers
check:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    .venv/bin/lint-imports

# Fix style and formatting
format:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

# Rewrite the generated parts of the documentation
docs:
    .venv/bin/python tests/tools/readme.py

# Run the demo wiki
wiki *arguments:
    .venv/bin/unwritten demo wiki {{arguments}}

# Run everything that CI runs
ci:
    bash .ci/run

"""``python -m unwritten`` is the command ``unwritten``."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="unwritten")

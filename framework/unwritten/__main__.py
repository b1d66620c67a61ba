"""``python -m unwritten``: the command ``unwritten``."""

from .cli.main import main

if __name__ == "__main__":
    main(prog_name="unwritten")

"""``python -m unwritten_engine.training``: prepare a run, train, carry it, try it, and tune a checkpoint."""

import sys

from .cli import main

sys.exit(main())

"""``python -m unwritten_engine.training``: prepare a run, train, carry it, try it, and tune a checkpoint."""

import sys

from .commands import main

sys.exit(main())

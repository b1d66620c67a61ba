"""``python -m unwritten_engine.training``: prepare, train and test a run, and tune a checkpoint."""

import sys

from .cli import main

sys.exit(main())

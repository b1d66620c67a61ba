"""``python -m unwritten_engine.training``: prepare, train, pack and test a run; tune a checkpoint."""

import sys

from .cli import main

sys.exit(main())

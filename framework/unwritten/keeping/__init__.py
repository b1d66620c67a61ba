"""Keeping: all that an app remembers, in one SQLite file, and how a world is shared."""

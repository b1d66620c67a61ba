"""Training: small DiffusionGemma models from scratch, and larger ones adapted to somebody's own pages.

Needs the extra ``training``. Everything begins with ``python -m unwritten_engine.training``.
"""

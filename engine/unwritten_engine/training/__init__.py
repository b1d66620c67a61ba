"""Train small DiffusionGemma models from scratch, and adapt larger ones with LoRA.

Needs the extra ``training``. The command line is ``python -m unwritten_engine.training``.
"""

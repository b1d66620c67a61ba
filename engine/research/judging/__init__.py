"""Perplexity of generated texts under one reference model.

``gemma`` loads the weights of the embedded model from its GGUF file, ``pieces`` tokenizes texts, and ``judge`` computes
the surprisal of each text.
"""

from __future__ import annotations

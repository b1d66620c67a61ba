"""Where training begins: a fresh model with a tokenizer of its own, or one that writes left to right, converted."""

from __future__ import annotations

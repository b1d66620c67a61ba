"""Between text and tokens: prompts and pictures in, canvases laid out, drafts read as text. No model is run here."""

from __future__ import annotations

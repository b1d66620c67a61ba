"""Create initial models for training: random weights, or Gemma 3 converted to DiffusionGemma."""

from __future__ import annotations

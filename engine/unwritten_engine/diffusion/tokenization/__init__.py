"""Convert prompts, images, schemas and drafts between text and tokens."""

from __future__ import annotations

"""Prompts in, frames out: the engine of Unwritten."""

from .script import scripted

__all__ = ["scripted"]

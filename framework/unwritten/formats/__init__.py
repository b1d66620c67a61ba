"""Formats: how the text of a canvas is requested, parsed and rendered as safe HTML."""

from .base import Format, Formatter, RegionContext

__all__ = ["Format", "Formatter", "RegionContext"]

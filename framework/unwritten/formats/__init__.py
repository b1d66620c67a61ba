"""Formats: how the text of a canvas is requested, parsed and rendered, from its first word to its last.

Each built-in format is one row of ``FORMATS``. An author's own is a ``Format`` like these, passed to the canvas.
"""

from .base import Format, Formatter, RegionContext
from .registry import FORMATS, get_format
from .schema import check_schema, json_schema_of

__all__ = ["FORMATS", "Format", "Formatter", "RegionContext", "check_schema", "get_format", "json_schema_of"]

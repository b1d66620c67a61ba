"""Formats: how the text of a canvas is requested, parsed and rendered as safe HTML.

``FORMATS`` holds the built-in formats. Authors pass their own ``Format`` to a canvas.
"""

from .base import Format, Formatter, RegionContext
from .registry import FORMATS, get_format
from .schema import check_schema, json_schema_of

__all__ = ["FORMATS", "Format", "Formatter", "RegionContext", "check_schema", "get_format", "json_schema_of"]

"""Editing: visitors change stored pages, compare versions and restore them. ``Editing`` is the extension."""

from .extension import Editing

__all__ = ["Editing"]

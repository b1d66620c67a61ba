"""Developer tools: the panel, request traces, recorded frames and live reload. ``DevTools`` is the extension."""

from .extension import DevTools

__all__ = ["DevTools"]

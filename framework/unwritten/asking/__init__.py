"""Asking: from a URL to what the engine is asked for."""

"""Routing: from a URL to a page request."""

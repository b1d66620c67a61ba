"""Showing: from texts and values to safe HTML, by templates, blocks and an allow-list."""

"""Editing: change written pages, keep their history, and show what changed."""

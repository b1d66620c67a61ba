"""Editing: changing what is written, its versions, and what is different between them."""

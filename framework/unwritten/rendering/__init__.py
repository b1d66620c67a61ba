"""Rendering: templates, blocks and regions. It knows regions, not jobs."""

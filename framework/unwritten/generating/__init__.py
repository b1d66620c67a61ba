"""Generating: from a click to finished regions, one generation for each page, and pages written ahead of clicks."""

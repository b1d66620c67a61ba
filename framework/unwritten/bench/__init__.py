"""Benchmarks: each prints a table for people and one JSON document on its last line."""

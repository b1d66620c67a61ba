"""Guarding: who may cause work, how much of it, and how the server is."""

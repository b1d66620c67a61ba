"""The web layer: page handler, live socket, streaming, actions, error pages and monitoring."""

"""Placeholder."""
def grammar(schema: object) -> str:
    """Placeholder."""
    raise NotImplementedError

"""Settings, errors, assets and helpers that every layer may use."""

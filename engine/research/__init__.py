"""Tools that make models and training data for this project. They are tested, and not installed."""

"""From a reference to a model on its device: what a checkpoint holds, what it takes, and its weights on their way."""

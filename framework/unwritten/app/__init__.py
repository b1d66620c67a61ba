"""The app: declarations, and the one function that builds every component from them."""

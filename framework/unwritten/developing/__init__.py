"""Developing: what authors see of their app while they write it."""

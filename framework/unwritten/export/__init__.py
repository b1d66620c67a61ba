"""Export and import: static sites, world files, training examples."""

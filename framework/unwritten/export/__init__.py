"""Export and import: static sites, database files, and training examples."""

"""Storage: the SQLite database, pages and their versions, values, tables and migrations."""

"""Storage: the database (SQLite or PostgreSQL), pages and their versions, values, tables and migrations."""

"""Runs in a SQLite file, or in memory."""

"""Worked examples; each folder runs by itself, see README.md."""

"""Decisions: pure functions over facts. Nothing here waits, reads a clock, draws a number or touches a database."""

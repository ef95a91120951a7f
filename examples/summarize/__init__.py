"""Summarizes a text by asking an agent: one durable step."""

"""The life cycle of an assessment period: eight states as a table."""

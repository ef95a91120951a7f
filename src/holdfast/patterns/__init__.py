"""What users write: each pattern is a builder on top and a pure program below. Patterns do not know each other."""

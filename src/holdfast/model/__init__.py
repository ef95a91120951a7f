"""Nouns: frozen data, made of the standard library and msgspec alone."""

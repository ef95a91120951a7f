"""Tides by the rule of twelfths, and when they are high."""

from tidetable.clock import high_waters
from tidetable.twelfths import height

__all__ = ["height", "high_waters"]

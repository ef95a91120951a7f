"""Sagas: steps with compensations, which take back what was done when a later step fails."""

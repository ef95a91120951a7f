"""A deployment pipeline as a state machine, with approval, health check, and rollback from any state."""

"""Doing: the only place with tasks, threads, locks and sleeps."""

"""Thinks a problem through by asking an agent three times: analyze, reason, conclude."""

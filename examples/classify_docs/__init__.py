"""Classify the security marking of scanned PDF documents: a durable step for each page."""

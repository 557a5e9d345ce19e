"""Crash-isolated worker processes."""

"""Pairs of objects to numbers."""

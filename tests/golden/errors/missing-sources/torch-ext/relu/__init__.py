"""A Python package."""

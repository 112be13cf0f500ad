"""Artifacts: what they hold, how they are packed, read, hashed and traced to their source."""

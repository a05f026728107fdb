"""Versioned scene bundles: writing, reading, verifying."""

"""Gaits: from a run that learned to walk to its files, and how well they walk."""

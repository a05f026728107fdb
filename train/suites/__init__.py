"""Scenes as benchmarks: fixed initial conditions, scores, and what they say about real robots."""

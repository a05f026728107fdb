"""Robots that climb stairs by a map of the ground: which way it rises, ways over it, and where to go next."""

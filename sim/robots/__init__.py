"""Robots: what a URDF or MJCF says, in one form for every physics engine."""

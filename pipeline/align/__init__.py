"""Gravity, scale and the world frame."""

"""Encoders of what robots see."""

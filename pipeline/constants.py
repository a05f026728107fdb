"""Constants that several packages share; nothing is imported for them."""

from __future__ import annotations

GRAVITY = 9.81
"""Gravity of every bundle and engine [m/s^2]."""
DECLARED = "camera-to-world"
"""The convention of every reader's poses, in the camera axes that the format declares."""

"""Constants of nature."""

from __future__ import annotations

GRAVITY = 9.81
"""Gravity of every bundle and engine [m/s^2]."""

"""Readers of every capture format, the canonical capture and the choice of keyframes."""

"""Recorded steps: replay, demonstrations, LeRobot datasets."""

"""Scans of phone apps, and ARKitScenes."""

"""Meshes for physics."""

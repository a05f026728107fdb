"""Bundles as simulators."""

"""Scenes as the collections lay them out that others publish: a module for each."""

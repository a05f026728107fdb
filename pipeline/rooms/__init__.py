"""Rooms drawn by seeds, as bundles whose truth is exact: mesh, floor, scale and gravity are what they were made of."""

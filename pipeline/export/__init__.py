"""Bundles in the formats of other tools; each in the axes that the format asks for."""

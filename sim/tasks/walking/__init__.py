"""Tasks of legs that follow velocity commands."""

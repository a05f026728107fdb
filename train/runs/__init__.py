"""A run: its folder, the loop that fills it, what is measured and shown of it."""

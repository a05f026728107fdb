"""Videos, filmed or generated."""

"""Files of all kinds: whole or not at all, bounded, plain."""

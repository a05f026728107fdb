"""Tasks as data: what is observed, rewarded and ended, as lists of small named functions."""

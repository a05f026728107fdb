"""The gates: measured quality of a bundle."""

"""The ground as robots believe it to be: the truth, the truth with errors, or a map of what a depth camera saw."""

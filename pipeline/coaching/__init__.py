"""Where to film a place again: what a capture left out, and the camera poses from which it would be seen."""

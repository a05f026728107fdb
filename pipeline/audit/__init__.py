"""What a robot sees of a bundle against what it touches: the contact audit."""

"""A stand-in for depth-anything-3: the same names and signatures, geometry from known truth."""

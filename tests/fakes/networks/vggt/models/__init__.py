"""A stand-in for facebookresearch/vggt: the same names and signatures, geometry from known truth."""

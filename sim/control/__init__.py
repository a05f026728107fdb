"""How actions move robots: wheels, gaits, end effectors and joints, each a `Controller`."""

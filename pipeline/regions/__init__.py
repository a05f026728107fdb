"""Where a robot can stand, start and go."""

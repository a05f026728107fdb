"""Finding a ball in a place that need not be known: trained eyes, maps of this episode's depth, and a planner."""

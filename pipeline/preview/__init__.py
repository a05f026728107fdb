"""Looking at a build that runs: what its stages publish, coarse models of what there is, and the time left."""

"""Physics: robots on the bundles' meshes, one interface over several engines."""

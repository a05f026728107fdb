"""Publishing bundles: registries of immutable versions, what may go into them, and locks on what came out."""

"""Publishing bundles to registries: checks, comparing, pulling, and looking after a registry."""

"""Objects: what stands in a scene, apart from what it stands on."""

"""Others' splats and meshes as checked bundles."""

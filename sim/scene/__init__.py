"""A bundle as a place for robots: meshes, floors, procedural terrain, and what is exported of it."""

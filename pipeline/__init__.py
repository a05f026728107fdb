"""From a capture of a real place to a scene bundle: mesh, splat and measured quality in one frame."""

"""How robots learn to see the ground by colour alone."""

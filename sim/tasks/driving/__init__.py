"""Tasks of robots that drive or walk to goals."""

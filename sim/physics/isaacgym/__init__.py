"""Isaac Gym Preview 4, in its own interpreter: `worker` runs there, `engine` here, `process` is what is between."""

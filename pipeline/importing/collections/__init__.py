"""Collections of scenes, in a folder or on the hub, imported by one command."""

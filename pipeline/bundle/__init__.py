"""The bundle stage: writes a scene as one immutable folder."""

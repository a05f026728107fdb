"""RGB-D recordings: 7-Scenes, TUM, Redwood."""

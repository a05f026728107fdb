"""How matched keyframes become a map: by poses as given or refined on the images, by the images alone, by a network."""

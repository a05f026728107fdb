"""Several captures of one place into one capture: found in each other, judged, placed in one frame."""

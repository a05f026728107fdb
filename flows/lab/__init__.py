"""A lab's inbox: what becomes of scans dropped there, uploads into it, and its page for phones."""

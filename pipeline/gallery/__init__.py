"""The gallery: a static site of scene bundles that needs nothing but a web server for files."""

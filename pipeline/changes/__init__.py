"""What moved between two scans of one place: registered, found, matched, its joints, cut out."""

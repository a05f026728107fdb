"""Folders of photos, of any cameras."""

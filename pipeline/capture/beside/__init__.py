"""What lies beside a capture's images: other images, files of other programs, the rest."""

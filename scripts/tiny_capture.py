"""Write the tests' small room as a Polycam export of 16 images: `python -m scripts.tiny_capture FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.synthetic import CAMERA, Room, walk, write_polycam


def main() -> None:
    """Write the capture to the folder given on the command line."""
    write_polycam(Path(sys.argv[1]), Room.make(seed=0), walk(16), CAMERA)


if __name__ == "__main__":
    main()

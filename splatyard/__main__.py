"""`python -m splatyard`, the program where its script isn't on the path."""

import sys

from flows.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m fastdesc` is `fastdesc`."""

import sys

from fastdesc.cli import main

if __name__ == "__main__":
    sys.exit(main())

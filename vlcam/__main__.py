"""``python -m vlcam``."""

import sys

from vlcam.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m vlcam``, and what the command ``vlcam`` runs."""

import os
import signal
from typing import NoReturn


def program() -> NoReturn:
    """Run the command line of this process, and end it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # while the rest is imported
    from vlcam.cli.parser import main
    from vlcam.utils.terminal import interrupt

    interrupt.end(main())


if __name__ == "__main__":
    program()

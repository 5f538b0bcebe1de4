"""What the daemon gives up before it does anything: readable files for others, core files."""

import os
import sys


def harden() -> None:
    """Files made from here on are for this user alone, and a crash writes no memory to disk."""
    os.umask(0o077)
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))

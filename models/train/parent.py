"""A process that ends with the one that started it, however that ends: parent.py PID SIGNAL COMMAND...

Linux sends it SIGNAL once its parent, PID, has ended; elsewhere nothing is done. Not of its own children: those ask for themselves.
"""

import ctypes
import os
import signal
import sys

# Of linux/prctl.h.
PR_SET_PDEATHSIG = 1
CAN = sys.platform == "linux"


def end_with(parent, by):
    """Has Linux send this process the signal `by` once `parent` has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(by), *[ctypes.c_ulong(0)] * 3):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit(f"process {parent}, which started this one, has ended")


def started_by(parent, command):
    """What to run instead of `command`, so that it is told to end once `parent` has."""
    return [sys.executable, __file__, str(parent), str(signal.SIGTERM.value), *command] if CAN else command


if __name__ == "__main__":
    end_with(int(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])

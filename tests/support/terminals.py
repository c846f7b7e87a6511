"""A command on a terminal of a given width."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Sequence
from typing import Any

#: What erases a line: the program's next line begins at the left edge again.
ERASED = "\r\x1b[K"


def run_on_terminal(command: Sequence[str], *, columns: int, rows: int = 24, **options: Any) -> tuple[int, str]:
    """Run a command whose output and errors are a terminal; return its exit code and all that it wrote there."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(command, stdout=child, stderr=child, **options)
    os.close(child)
    written = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:
            break  # Linux's word for the end of a terminal
        if not piece:
            break
        written += piece
    os.close(parent)
    return process.wait(), written.decode()

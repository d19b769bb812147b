"""The wall clock as one installation's processes see it, which a test sets; the monotonic clock is left alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.servers import missing, require


class Clock:
    """A clock that is right until it is set; `settings` is what makes a process follow it.

    libfaketime is no help here: told to leave the monotonic clock alone (0.9.10), it breaks sleeping until a moment
    of that clock (EINVAL) and holds event loops up for seconds.
    """

    def __init__(self, folder: Path) -> None:
        self._ahead = folder / "clock-ahead"
        self._ahead.write_bytes(bytes(8))
        library = folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([require("cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self.settings = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(self._ahead)}
        self.set(3_600)
        wall, monotonic = self._ask_python()
        self.set(0)
        if not (3_500 < wall - time.time() <= 3_600 and -100 < monotonic - time.monotonic() <= 0):
            missing("the wall clock of a process can't be set here")

    def set(self, seconds: int) -> None:
        """Let the clock be so many seconds ahead of the true one, from this moment on; behind it when negative."""
        with self._ahead.open("r+b", buffering=0) as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
        self.ahead = seconds

    def now(self) -> float:
        """Return the time that it shows (seconds since the epoch)."""
        return time.time() + self.ahead

    def _ask_python(self) -> tuple[float, float]:
        """Return the wall clock and the monotonic clock as a Python under this clock reads them."""
        command = [sys.executable, "-c", "import time; print(time.time(), time.monotonic())"]
        ran = subprocess.run(command, env=os.environ | self.settings, capture_output=True, text=True, check=True)
        wall, monotonic = ran.stdout.split()
        return float(wall), float(monotonic)

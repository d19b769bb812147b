"""What a process asked the kernel to do, in its order, as strace saw it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WRITES = "write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg"
SYNCS = "fsync,fdatasync,sync_file_range,msync"
STRACE = (
    *("strace", "-f", "-y", "-s", "6000", "--seccomp-bpf", "-e", "signal=none"),
    *("-e", f"trace={WRITES},{SYNCS},rename,renameat,renameat2,read,recvfrom,recvmsg"),
)
"""The command that wraps a process; `-o FILE` follows."""

_LINE = re.compile(r"^(?P<thread>\d+) +(?P<rest>.*)$")
_CALL = re.compile(r"^(?P<name>\w+)\((?P<rest>.*)$", re.DOTALL)
_RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$", re.DOTALL)
_UNFINISHED = "<unfinished ...>"


@dataclass
class Call:
    """One system call: `began` and `ended` are places in the order of all; `ended` is None for one never finished."""

    name: str
    arguments: str
    began: int
    ended: int | None = None

    def on(self, part_of_name: str) -> bool:
        """Whether its first file's name holds this."""
        return part_of_name in self.arguments.partition(">")[0]

    @property
    def writes(self) -> bool:
        """Whether it writes or sends."""
        return self.name in WRITES.split(",")

    @property
    def syncs(self) -> bool:
        """Whether it puts a file on disk and came back."""
        return self.name in ("fsync", "fdatasync") and self.ended is not None and self.arguments.endswith("= 0")


def calls(trace: Path) -> list[Call]:
    """Return every call of a trace in the order in which they began."""
    return list(_calls(trace))


def _calls(trace: Path) -> Iterator[Call]:
    open_calls: dict[str, Call] = {}
    for place, line in enumerate(trace.read_text(errors="replace").splitlines()):
        if not (found := _LINE.match(line)):
            continue
        thread, rest = found["thread"], found["rest"]
        if resumed := _RESUMED.match(rest):
            if call := open_calls.pop(thread, None):
                call.arguments, call.ended = call.arguments + resumed["rest"], place
        elif begun := _CALL.match(rest):
            call = Call(begun["name"], begun["rest"].removesuffix(_UNFINISHED), place)
            if rest.endswith(_UNFINISHED):
                open_calls[thread] = call
            else:
                call.ended = place
            yield call


def first(found: list[Call], what: str, *, name: str = "", after: int = -1) -> Call:
    """Return the first call after this place whose arguments hold `what` (and of this name, if one is given)."""
    for call in found:
        if call.began > after and what in call.arguments and name in ("", call.name):
            return call
    raise AssertionError(f"no {name or 'call'} with {what!r} after {after}")

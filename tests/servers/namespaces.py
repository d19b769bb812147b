"""Machines of their own on one switch: network namespaces that nothing else knows of and that end with us.

They have no names on this machine: a namespace is held open by a file, and is gone with the last process in it.
"""

import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import require

NEW_NETWORK = 0x4000_0000
"""CLONE_NEWNET of <sched.h>."""
NOWHERE = "02:00:00:00:00:01"
"""A hardware address (locally administered) that no machine has."""

_libc = ctypes.CDLL(None, use_errno=True)


def _of_this_thread() -> int:
    return os.open(Path("/proc/thread-self/ns/net"), os.O_RDONLY | os.O_CLOEXEC)


def _new_namespace() -> int:
    """Return a file that holds a new namespace open; skip the test where the kernel or the container allows none."""
    made: list[int] = []

    def make() -> None:
        if _libc.unshare(NEW_NETWORK) == 0:
            made.append(_of_this_thread())

    thread = threading.Thread(target=make)  # it lives there alone, and ends
    thread.start()
    thread.join()
    if not made:
        pytest.skip("this machine lets nobody make network namespaces")
    return made[0]


class Machine:
    """One machine with an address of its own; loopback is its own, too."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._namespace = _new_namespace()

    @property
    def path(self) -> str:
        """What `ip link … netns` takes for its name."""
        return f"/proc/{os.getpid()}/fd/{self._namespace}"

    @property
    def wrapper(self) -> tuple[str, ...]:
        """What stands before a command that is to run on the machine."""
        return (require("nsenter"), f"--net={self.path}")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread be on the machine: what it connects to, and the processes and threads that it starts."""
        before = _of_this_thread()
        try:
            _enter(self._namespace)
            yield
        finally:
            _enter(before)
            os.close(before)

    def ip(self, *commands: str) -> None:
        """Run commands of `ip` on the machine."""
        with self.inside():
            subprocess.run([require("ip"), "-batch", "-"], input="\n".join(commands), text=True, check=True)

    def close(self) -> None:
        """Let go of it; it ends when its last process has ended."""
        os.close(self._namespace)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, NEW_NETWORK) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Network:
    """Some machines (10.0.0.1 and so on) and the switch between them, where their cables can be pulled."""

    def __init__(self, number: int) -> None:
        self._switch = Machine("")
        self.machines = [Machine(f"10.0.0.{place}") for place in range(1, number + 1)]
        self._switch.ip("link add switch type bridge", "link set switch up")
        for machine in self.machines:
            port = self._port(machine)
            self._switch.ip(
                f"link add {port} type veth peer name cable netns {machine.path}",
                f"link set {port} master switch",
                f"link set {port} up",
            )
            machine.ip("link set lo up", f"address add {machine.address}/24 dev cable", "link set cable up")

    def cut_off(self, machine: Machine) -> None:
        """Let nothing through to or from the machine; nobody is told, as when a switch dies."""
        self._switch.ip(f"link set {self._port(machine)} nomaster")

    def join(self, machine: Machine) -> None:
        """Let everything through again."""
        self._switch.ip(f"link set {self._port(machine)} master switch")

    @staticmethod
    def part(one: Machine, other: Machine) -> None:
        """Let nothing that one machine says reach the other; what it says to third ones does."""
        one.ip(f"neighbour replace {other.address} lladdr {NOWHERE} dev cable nud permanent")

    @staticmethod
    def reconcile(one: Machine, other: Machine) -> None:
        """Let it speak to the other again."""
        one.ip(f"neighbour delete {other.address} dev cable")

    @staticmethod
    def _port(machine: Machine) -> str:
        return f"port{machine.address.rpartition('.')[2]}"

    def close(self) -> None:
        """Let go of the machines and the switch."""
        for machine in (*self.machines, self._switch):
            machine.close()


@contextmanager
def network(number: int) -> Iterator[Network]:
    """Have so many machines on a switch while the block runs; skips the test where that can't be had."""
    if os.getuid() != 0:
        pytest.skip("only root can make network namespaces")
    made = Network(number)
    try:
        yield made
    finally:
        made.close()

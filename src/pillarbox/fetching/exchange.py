"""What is known of an exchange before and after it: its bounds, and the answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a connection and the whole may take, and how much of a body is read."""

    connect_seconds: float
    total_seconds: float
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the status code, the first bytes of its body as they came (at most the fetcher's bound), and its
    headers by lower-case name (the first of each, 100 KiB at most)."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def is_good(self) -> bool:
        """Whether the server took it (2xx)."""
        return 200 <= self.status < 300

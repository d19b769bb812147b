"""Why no answer came: in plain words that hold no address, and as one word for whoever has more to say."""

import errno
import socket
import ssl
from collections.abc import Iterator
from enum import StrEnum


class Why(StrEnum):
    """What stood in the way of an answer."""

    ADDRESS = "address"
    """What was asked for is no address on the web."""
    NAME = "name"
    """The host's name is not known."""
    PRIVATE = "private"
    """The host is inside, and nobody allowed that."""
    CONNECTION = "connection"
    SILENCE = "silence"
    CERTIFICATE = "certificate"
    TLS = "tls"
    PROXY = "proxy"
    """The proxy refused, or a setting for the network can't be used."""
    ANSWER = "answer"
    """What came back was no HTTP, or nothing, or too much."""


class Unreachable(Exception):
    """No answer came; its text says why in plain words, without the address that was asked.

    `why` is the same as one word. `detail` is the TLS library's own sentence on a certificate, which may name the host.
    """

    def __init__(self, words: str, why: Why = Why.ANSWER, *, detail: str = "") -> None:
        super().__init__(words)
        self.why = why
        self.detail = detail


_NO_HTTP = ("it hung up, or what it said was no HTTP", Why.ANSWER)
_CAUSES = (
    (ssl.SSLCertVerificationError, "its certificate is not to be trusted", Why.CERTIFICATE),
    (ssl.SSLError, "TLS failed", Why.TLS),
    (socket.gaierror, "its name is not known to DNS", Why.NAME),
    (ConnectionRefusedError, "connection refused", Why.CONNECTION),
)
_BY_NAME = {
    "ConnectError": ("no connection", Why.CONNECTION),
    "ProxyError": ("the proxy refused", Why.PROXY),
}
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH}


def in_words(error: BaseException) -> Unreachable:
    """Return what an error of the network means."""
    for cause in _causes(error):
        for kind, words, why in _CAUSES:
            if isinstance(cause, kind):
                return Unreachable(words, why, detail=getattr(cause, "verify_message", ""))
        if isinstance(cause, OSError) and cause.errno in _NO_ROUTE:
            return Unreachable("there is no route to it", Why.CONNECTION)
    return Unreachable(*_BY_NAME.get(type(error).__name__, _NO_HTTP))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all it came from, members of groups included."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            waiting += [cause for cause in (*members, one.__cause__, one.__context__) if cause]

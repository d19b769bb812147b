"""HTTP spoken by hand, byte for byte, so that a test can also say it wrong."""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}


@dataclass(frozen=True)
class Answer:
    """What came back; header names in lower case, repeated ones joined by commas."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, **more: float
) -> Answer:
    """Send one request as it should be and return the answer."""
    lines = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body))} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return exchange(port, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body, method=method, **more)


def post(port: int, fields: Any, path: str = "/api/contact", headers: dict[str, str] | None = None) -> Answer:
    """Post JSON."""
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return ask(port, "POST", path, body, {"Content-Type": JSON} | (headers or {}))


def submit(port: int, fields: Any, path: str = "/send-message", headers: dict[str, str] | None = None) -> Answer:
    """Post a plain form as a browser does without JavaScript."""
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    return ask(port, "POST", path, body, BROWSER | {"Content-Type": FORM} | (headers or {}))


def multipart(*parts: tuple[str, str], boundary: str = "cut") -> bytes:
    """Return a multipart body; each part is its own header lines and its text."""
    return b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n{text}\r\n".encode() for head, text in parts
    ) + (f"--{boundary}--\r\n".encode())


def exchange(port: int, request: bytes, *, method: str = "POST", patience: float = 20.0) -> Answer:
    """Send these bytes and return the first final answer. Raises OSError when the connection ends without one."""
    with socket.create_connection(("127.0.0.1", port), patience) as connection:
        connection.sendall(request)
        return read_answer(connection, method=method)


def read_answer(connection: socket.socket, *, method: str = "POST") -> Answer:
    """Return the next final answer on a connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known}, {value.strip()}" if known else value.strip()
    status = int(first.split()[1])
    length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
    while len(body) < length:
        body += _more(connection)
    return Answer(status, headers, body)


def _more(connection: socket.socket) -> bytes:
    if not (piece := connection.recv(65_536)):
        raise ConnectionError("closed without a whole answer")
    return piece


def assert_failure(answer: Answer, status: int, code: str | None = None) -> None:
    """Assert that this is a failure in the one JSON shape."""
    assert answer.status == status, answer.body[:500]
    assert answer.headers["content-type"] == JSON
    found = answer.json
    assert list(found) == ["success", "ok", "message", "error", "code", "errors"]
    assert (found["success"], found["ok"]) == (False, False)
    assert found["message"] == found["error"] != ""
    assert all(list(one) == ["field", "code", "message"] for one in found["errors"])
    assert all(isinstance(text, str) for one in found["errors"] for text in one.values())
    assert code in (None, found["code"])
    assert len(answer.body) < 2_000


def assert_thanks(answer: Answer) -> None:
    """Assert that this is a success in the one JSON shape."""
    assert answer.status == 200, answer.body[:500]
    assert list(answer.json) == ["success", "ok", "message", "id", "next"]
    assert (answer.json["success"], answer.json["ok"]) == (True, True)
    assert all(isinstance(answer.json[name], str) and answer.json[name] for name in ("message", "id", "next"))


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def closes_within(connection: socket.socket, seconds: float) -> bool:
    """Tell whether the other side closes the connection in this time."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            if not connection.recv(65_536):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def sent_until_cut(port: int, head: bytes, piece: bytes, *, most: int) -> int:
    """Return how many bytes the server takes before it cuts the connection."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head)
        try:
            while sent < most:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            return sent
    raise AssertionError(f"{most} bytes were taken")

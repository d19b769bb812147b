"""A policy service as Postfix asks it (its SMTPD_POLICY_README): greylisting, as the well-known daemons do it."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Greylist(socketserver.ThreadingTCPServer):
    """Puts off the first letter of each sender to an address of the domains in `answers`, by that domain's answer."""

    daemon_threads = True

    def __init__(self, answers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.answers = answers
        self._seen: set[tuple[str, str]] = set()

    def action(self, sender: str, recipient: str) -> str:
        """Return what is to be done with a letter, as in access(5)."""
        answer = self.answers.get(recipient.partition("@")[2])
        if answer is None or (sender, recipient) in self._seen:
            return "DUNNO"
        self._seen.add((sender, recipient))
        return answer


class _Asked(socketserver.StreamRequestHandler):
    """One Postfix process: it asks again and again, with lines of name=value up to an empty one."""

    server: Greylist

    def handle(self) -> None:
        about: dict[str, str] = {}
        for line in self.rfile:
            name, _, value = line.decode().strip().partition("=")
            about[name] = value
            if not name:
                action = self.server.action(about.get("sender", ""), about.get("recipient", ""))
                self.wfile.write(f"action={action}\n\n".encode())
                about = {}


@contextmanager
def greylisting(answers: dict[str, str]) -> Iterator[int]:
    """Answer for these domains while the block runs; yield the port."""
    with Greylist(answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()

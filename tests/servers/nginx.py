"""A private nginx on loopback before some of our processes, ended by its own pid."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.running import free_port, until
from tests.servers import require

CONFIGURATION = """
daemon off;
master_process off;
pid {home}/pid;
error_log {home}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://pillarbox;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            {location}
        }}
    }}
}}
"""


class Nginx:
    """It spreads requests over upstream ports; `port` is where it listens."""

    def __init__(self, home: Path, upstream: str, location: str) -> None:
        self.home, self.port = home, free_port()
        text = CONFIGURATION.format(home=home, port=self.port, upstream=upstream, location=location)
        (home / "nginx.conf").write_text(text)
        self._log = home / "error.log"
        self._process = subprocess.Popen([require("nginx"), "-c", home / "nginx.conf", "-p", home, "-e", self._log])
        until(self._listens)

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return True
        return False

    def stop(self) -> None:
        """End it at once; `errors` is what it complained of."""
        self._process.terminate()
        self._process.wait(10)
        self.errors = self._log.read_text()


@contextmanager
def running_nginx(ports: Sequence[int], *, server: str = "", location: str = "") -> Iterator[Nginx]:
    """Run nginx before these ports while the block runs.

    `server` are words for each upstream server, `location` is what else stands beside proxy_pass.
    """
    home = Path(tempfile.mkdtemp(prefix="pillarbox-nginx-"))
    servers = "".join(f"server 127.0.0.1:{port} {server};" for port in ports)
    made = Nginx(home, f"upstream pillarbox {{ {servers} }}", location)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(home)

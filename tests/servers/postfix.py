"""A private Postfix on loopback: its own configuration, queue and Maildir in one folder, ended by its own pid."""

import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from tests.running import free_port
from tests.servers import missing, require
from tests.servers.certificates import Certificates, make_certificates

_MAIN = """
compatibility_level = 3.6
config_directory = {home}/etc
queue_directory = {home}/queue
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
maillog_file_prefixes = {home}
maillog_file = {home}/mail.log
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example
myorigin = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all/
virtual_mailbox_base = {home}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
virtual_transport = virtual
default_transport = error:nothing leaves this machine
relay_transport = error:nothing leaves this machine
smtpd_tls_security_level = may
smtpd_tls_chain_files = {home}/etc/key.pem, {home}/etc/cert.pem
smtpd_recipient_restrictions = check_recipient_access inline:{{{recipients}}}, {policy} permit_mynetworks, reject
smtpd_sender_restrictions = check_sender_access inline:{{{senders}}}
smtpd_client_connection_count_limit = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_error_sleep_time = 0
message_size_limit = {size_limit}
{more}
"""

_MASTER = """
{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
"""


class Postfix:
    """A running Postfix. Every recipient's mail lands in one Maildir; its Delivered-To says whose it was."""

    def __init__(self, home: Path, port: int, certificates: Certificates) -> None:
        self.home, self.host, self.port, self.ca_file = home, "127.0.0.1", port, certificates.ca_file

    @property
    def log(self) -> str:
        """What Postfix wrote down."""
        path = self.home / "mail.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def files(self) -> list[Path]:
        """Return the delivered letters' files."""
        return sorted((self.home / "mail" / "all" / "new").glob("*"))

    def forget(self) -> None:
        """Delete what was delivered so far."""
        for path in self.files():
            path.unlink()

    def contents(self) -> list[bytes]:
        """Return the delivered letters as they lie on disk (LF line ends, Postfix's own headers on top)."""
        return [path.read_bytes() for path in self.files()]

    def letters(self) -> list[Message]:
        """Return the delivered letters, parsed."""
        return [BytesParser().parsebytes(content) for content in self.contents()]

    def reload(self) -> None:
        """Have Postfix read its configuration anew."""
        _tell(self.home, "reload")

    @contextmanager
    def away(self) -> Iterator[None]:
        """End Postfix, and with it every client's connection, while the block runs."""
        _end(self.home)
        try:
            yield
        finally:
            self.start()

    def start(self) -> None:
        """Start Postfix; on return it greets."""
        _tell(self.home, "start")
        _until(lambda: _greets(self.port), "Postfix did not greet")


@contextmanager
def running_postfix(
    *,
    recipients: dict[str, str] | None = None,
    senders: dict[str, str] | None = None,
    size_limit: int = 10_240_000,
    policy: int | None = None,
    settings: str = "",
) -> Iterator[Postfix]:
    """Run a Postfix while the block runs. Skips the test without Postfix or without root.

    `recipients` and `senders` map an address or domain to an action of access(5): `450 4.2.0 Greylisted`,
    `550 5.1.1 No such user`; the empty sender is `<>`. A policy service at the port `policy` has the last word on every
    recipient. `settings` are more lines of main.cf.
    """
    require("postfix")
    if os.geteuid() != 0:
        missing("a Postfix of one's own needs root")
    home = Path(tempfile.mkdtemp(prefix="pillarbox-postfix-"))
    home.chmod(0o755)
    try:
        port, certificates = free_port(), _lay_out(home)
        _configure(
            home,
            port,
            recipients=_table(recipients),
            senders=_table(senders),
            policy=f"check_policy_service inet:127.0.0.1:{policy}," if policy else "",
            size_limit=size_limit,
            more=settings,
        )
        running = Postfix(home, port, certificates)
        try:
            running.start()
            yield running
        finally:
            _end(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _lay_out(home: Path) -> Certificates:
    for name in ("etc", "queue", "data", "mail"):
        (home / name).mkdir()
    owner = pwd.getpwnam("postfix")
    os.chown(home / "data", owner.pw_uid, owner.pw_gid)
    os.chown(home / "mail", owner.pw_uid, owner.pw_gid)
    return make_certificates(home / "etc")


def _configure(home: Path, port: int, **settings: object) -> None:
    owner = pwd.getpwnam("postfix")
    found = (path for path in ("/usr/lib/postfix/sbin", "/usr/libexec/postfix") if Path(path, "master").exists())
    main = _MAIN.format(
        home=home,
        daemons=next(found, "/usr/lib/postfix/sbin"),
        uid=owner.pw_uid,
        gid=owner.pw_gid,
        **settings,
    )
    (home / "etc" / "main.cf").write_text(main)
    (home / "etc" / "master.cf").write_text(_MASTER.format(port=f"127.0.0.1:{port}"))


def _table(actions: dict[str, str] | None) -> str:
    entries = (actions or {"nobody.invalid": "DUNNO"}).items()
    return ", ".join(f"{{{key} = {action}}}" for key, action in entries)


def _greets(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=2) as client:
            return client.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def _end(home: Path) -> None:
    """End this Postfix's own master, which ends its children."""
    master = _master(home)
    if master is None:
        return
    os.kill(master, signal.SIGTERM)
    _until(lambda: not _alive(master), "Postfix did not end")


def _master(home: Path) -> int | None:
    pid_file = home / "queue" / "pid" / "master.pid"
    return int(pid_file.read_text().strip()) if pid_file.exists() else None


def _tell(home: Path, command: str) -> None:
    subprocess.run([require("postfix"), "-c", home / "etc", command], check=True, capture_output=True, timeout=30)


def _alive(pid: int) -> bool:
    """Return whether the process runs; one that nobody has waited for yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.02)  # between two looks at another process

"""A certificate authority of our own, made for one run."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """An authority's file for clients, and a certificate of it for 127.0.0.1 and localhost (or other `names`)."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    @property
    def context(self) -> ssl.SSLContext:
        """A server's context with this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


def make_certificates(folder: Path, *names: str, not_after: datetime | None = None) -> Certificates:
    """Write a new authority and a certificate for these names (default 127.0.0.1 and localhost) into the folder.

    The certificate ends at `not_after`, else in a far future.
    """
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")), not_after=not_after)
    made = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(made.ca_file)
    issued.private_key_pem.write_to_path(made.key_file)
    made.cert_file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return made

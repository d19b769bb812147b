"""The installation's secret keys: what is signed with them, and what is known by their fingerprints alone."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from itsdangerous import BadSignature, Signer

_SIGNED = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}")


class Keys:
    """One or several keys: the first signs, all verify, so that a key can be replaced without breaking what it signed.

    Each `purpose` has signatures of its own: what was signed for one counts for no other.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take at least one key; raises ValueError without any."""
        if not secrets:
            raise ValueError("at least one key is needed")
        self._secrets = tuple(secrets)
        self._fingerprint_key = hashlib.sha256(b"fingerprint:" + secrets[0].encode()).digest()
        self._signers: dict[str, Signer] = {}

    def sign(self, text: str, purpose: str) -> str:
        """Return the text (without a dot) with its signature: letters, digits, `-`, `_` and one dot."""
        return self._signer(purpose).sign(text).decode()

    def verified(self, signed: str, purpose: str) -> str | None:
        """Return the text that one of our keys signed for this purpose, or None; compared in constant time.

        Only what sign() could have written is looked at: decoding base64 forgives what stands behind its end.
        """
        if not _SIGNED.fullmatch(signed):
            return None
        try:
            return self._signer(purpose).unsign(signed).decode()
        except (BadSignature, UnicodeError):
            return None

    def fingerprint(self, text: str) -> str:
        """Return 16 hexadecimal digits that are the same for the same text, and tell nothing of it without the key.

        They tell clients apart for limits and are no proof of anything. 64 bits are enough for that: among a million
        clients two are the same once in 37 million installations, and would then share a limit. Nobody can look for
        such a pair, or go through all addresses, without the key.
        """
        # Keyed BLAKE2 (RFC 7693, 2.9) takes a fiftieth of the time of an HMAC, and each accepted message pays it.
        return hashlib.blake2b(text.encode(errors="replace"), digest_size=8, key=self._fingerprint_key).hexdigest()

    def _signer(self, purpose: str) -> Signer:
        if purpose not in self._signers:
            # Each purpose's keys are derived here once, which the signer would do at each signature.
            derived = [
                hmac.digest(secret.encode(), f"pillarbox.{purpose}".encode(), "sha256") for secret in self._secrets
            ]
            newest_last = derived[::-1]
            self._signers[purpose] = Signer(newest_last, key_derivation="none", digest_method=hashlib.sha256)
        return self._signers[purpose]

"""A submission becomes a letter: who it is from, to whom, and what its headers say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail to one recipient, ready for any way out.

    `id` is the delivery's, unique and stable over every repeat. `sender` is the envelope's MAIL FROM and may be
    empty (the null reverse-path of RFC 5321 4.5.5). `content` is the whole message (RFC 5322) with CRLF line ends,
    lines of at most 998 octets, all of it ASCII unless `smtputf8` says that an address needs RFC 6531.
    """

    id: str
    message_id: str
    sender: str
    recipient: str
    content: bytes
    smtputf8: bool = False
    fallback_sender: str = ""

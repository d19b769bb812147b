"""A reply of a mail server that is known, and how it is recognised."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that is known, and what ends it.

    It is recognised by its code ("" is any, or none), by `words` (searched without regard to case), and, where the
    words are nobody's in particular, by the mail server that says it: one of `hosts` or a name below one.
    """

    who: str
    code: str
    words: re.Pattern[str]
    advice: str
    hosts: tuple[str, ...] = ()

    def is_in(self, note: str, host: str) -> bool:
        """Tell whether the note is this reply."""
        if self.code and not note.startswith(f"{self.code} "):
            return False
        if self.hosts and not any(f".{host}".endswith(f".{domain}") for domain in self.hosts):
            return False
        return bool(self.words.search(note))


def known(who: str, start: str, words: str, *, hosts: tuple[str, ...] = (), advice: str) -> Reply:
    """Return a row. `start` is what the note begins with: nothing, a code, or a code and an enhanced one."""
    code, _, enhanced = start.partition(" ")
    # Every line of a long reply repeats the enhanced code, so it may stand between any two words.
    first = rf"^{code} {re.escape(enhanced)}\b" if enhanced else ""
    pattern = f"{first}.*?(?:{words})" if first and words else first or words
    return Reply(who, code, re.compile(pattern, re.IGNORECASE | re.DOTALL), advice, hosts)

"""How held messages look in a terminal, and to programs."""

from typing import TYPE_CHECKING, Any

from pillarbox.cli.kept import moment
from pillarbox.terminal import shortened, when

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pillarbox.core.delivery import Delivery
    from pillarbox.core.submission import Submission
    from pillarbox.store.held import Suspect

_WIDEST_REASONS, _WIDEST_NAME, _LONGEST_BEGIN = 20, 16, 60
"""Characters in a list."""


def counted(number: int) -> str:
    """Return so many messages in words."""
    return {0: "no message", 1: "1 message"}.get(number, f"{number} messages")


def as_dict(one: "Suspect") -> dict[str, Any]:
    """Return a held message as JSON can hold it."""
    from pillarbox.exporting import as_dict as written

    judged = {"judgement": one.judgement, "judged_at": moment(one.judged_at)}
    return written(one.submission) | {"client": one.client} | judged


def told_as_dict(one: "Suspect", letters: "Iterable[Delivery]", *, others: int) -> dict[str, Any]:
    """Return all that is told of a held message as JSON can hold it."""
    from pillarbox.store.held import leaves_on_release

    of_it = [
        {
            "id": letter.id,
            "purpose": letter.purpose,
            "recipient": letter.recipient,
            "state": letter.state,
            "note": letter.note,
            "leaves_on_release": leaves_on_release(letter),
        }
        for letter in letters
    ]
    return as_dict(one) | {"others_of_client": others, "letters": of_it}


def table(found: "Sequence[Suspect]", *, width: int | None) -> "Iterator[str]":
    """Yield a heading and a line a message; what does not fit `width` is cut off, None is no bound."""
    reasons = _widest("held for", (", ".join(one.submission.held_for) for one in found), _WIDEST_REASONS)
    name = _widest("name", (one.submission.value("name") for one in found), _WIDEST_NAME)
    are_judged = any(one.judgement for one in found)
    judged = f"{'judged':<8}  " if are_judged else ""
    begins = f"{'id':<14}  {'received':<16}  {judged}{'held for':<{reasons}}  {'name':<{name}}  message"
    yield shortened(begins, width or len(begins))
    for one in found:
        about = one.submission
        judged = f"{one.judgement or '':<8}  " if are_judged else ""
        why = f"{shortened(', '.join(about.held_for), reasons):<{reasons}}"
        who = f"{shortened(about.value('name'), name):<{name}}"
        line = f"{about.id:<14}  {when(about.received_at)}  {judged}{why}  {who}  {_begin(about)}"
        yield shortened(line, width or len(line)).rstrip()


def _widest(heading: str, cells: "Iterable[str]", most: int) -> int:
    return min(max(map(len, (heading, *cells))), most)


def _begin(about: "Submission") -> str:
    """Return what a message is about, or how it begins."""
    others = (answer.text for answer in about.answers if answer.name not in {"name", "email"} and answer.text)
    return shortened(about.value("subject") or about.value("message") or next(others, ""), _LONGEST_BEGIN)


def story(one: "Suspect", letters: "Sequence[Delivery]", *, others: int) -> "Iterator[str]":
    """Yield the lines that tell all about a held message."""
    about = one.submission
    yield f"Message {about.id} of {when(about.received_at)}, form {about.form}"
    yield f"  held for  {', '.join(about.held_for)}"
    yield f"  network   {_network(one, others)}"
    if one.client and others:
        yield f"            those held: `pillarbox held list --all --client {one.client}`"
    if one.judgement:
        yield f"  judged    {one.judgement} on {when(one.judged_at or 0.0)}"
    for answer in about.answers:
        indented = answer.text.replace("\n", "\n    ")
        yield f"\n  {answer.label}\n    {indented}"
    yield ""
    yield from _released(about, letters) if one.judgement == "released" else _to_be_released(one, letters)


def _network(one: "Suspect", others: int) -> str:
    if not one.client:
        return "not known, or not any more: it is remembered for 30 days"
    messages = {0: "no other message", 1: "1 other message"}.get(others, f"{others} other messages")
    return f"{one.client}; {messages} came from the same network"


def _released(about: "Submission", letters: "Sequence[Delivery]") -> "Iterator[str]":
    widest = max((len(_named(letter)) for letter in letters), default=0)
    for letter in letters:
        yield f"  {_named(letter):<{widest}}  {letter.state}{f': {letter.note}' if letter.note else ''}"
    yield f"\nAll about its letters: `pillarbox deliveries show {about.id}`."


def _to_be_released(one: "Suspect", letters: "Sequence[Delivery]") -> "Iterator[str]":
    from pillarbox.store.held import leaves_on_release

    yield "If it is released:"
    widest = max((len(_named(letter)) for letter in letters), default=0)
    for letter in letters:
        stays = f"stays {letter.state}{f': {letter.note}' if letter.note else ''}"
        yield f"  {_named(letter):<{widest}}  {'is sent' if leaves_on_release(letter) else stays}"
    identifier = one.submission.id
    yield f"\nTo send it:     `pillarbox held release {identifier}`"
    if one.judgement:
        yield "What was dropped is erased 30 days later."
    else:
        yield f"To put it away: `pillarbox held drop {identifier}` (erased after 30 days)"


def _named(letter: "Delivery") -> str:
    return f"the {letter.purpose} to {letter.recipient}"

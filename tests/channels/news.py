"""A usual piece of news for the tests of this folder."""

from pillarbox.core.alarm import Event, Kind, Message

NEWS = Message(
    id="0123abcd",
    event=Event.OPENED,
    kind=Kind.WAY_SHUT,
    subject="default",
    title='[Bücher & mehr 📚] no mail leaves through "default"',
    text="Since then: 535 no.\nWhat to do: mend it.",
    note="535 no",
    since=1_800_000_000.0,
    at=1_800_000_900.0,
)

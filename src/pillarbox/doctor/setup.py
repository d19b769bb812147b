"""What was set: whom mail is from and for, how it leaves, and who hears when it can't."""

from collections.abc import Sequence
from pathlib import Path

from pillarbox.core.delivery import Outcome, Sent
from pillarbox.doctor import Finding

_ALARM = "Set ALARM_TO to a webhook, ntfys://ntfy.sh/your-topic, or mailto: an address by another way out."


def examine_settings(sender: str, recipients: Sequence[str], ways: Sequence[str]) -> Finding:
    """Say whom the mail comes from, whom it goes to, and through what: `ways` are named as people would."""
    seen = f"mail comes from {sender}, goes to {', '.join(recipients)} and leaves through {' and '.join(ways)}"
    return Finding("settings", "ok", seen)


def examine_folder(outcome: Outcome, folder: Path) -> list[Finding]:
    """Judge a way out that is a folder: whether mail can be put there, and that it goes no further."""
    advice = "To send real mail, set SMTP_SERVER, SMTP_PORT, EMAIL_ADDRESS, EMAIL_PASSWORD and RECIPIENT_EMAIL."
    further = Finding("mail", "warn", f"no mail leaves this machine yet: it goes into the folder {folder}", advice)
    if isinstance(outcome, Sent):
        return [Finding("mail", "ok", outcome.note), further]
    return [Finding("mail", "fail", outcome.note, "Mend the folder's rights, or set MAILDIR to another."), further]


def examine_alarms(channels: int, *, need_the_mail: bool = False) -> Finding:
    """Say whether anybody hears of mail that can't leave; `channels` is how many ways of telling there are.

    `need_the_mail` says that each of them needs the way out that the form's own mail leaves by.
    """
    if not channels:
        return Finding("alarm", "warn", "nobody is told when mail can't leave", _ALARM)
    if need_the_mail:
        return Finding("alarm", "warn", "told of by the very mail that can't leave", _ALARM)
    by = "1 channel" if channels == 1 else f"{channels} channels"
    return Finding("alarm", "ok", f"told by {by} when mail can't leave (`pillarbox doctor --test-alarm` tries)")

"""Messages as files for other programs: CSV that no spreadsheet takes for formulas, and JSON lines."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from pillarbox.core.submission import Submission

Submissions = Callable[[], Iterable[Submission]]
"""Gives the submissions once more each time it is called."""

_LOOKS_LIKE_A_FORMULA = tuple("=+-@\t\r\n\0＝＋－＠")
"""What spreadsheets run; the wide ones are the same signs to those set to Japanese or Chinese."""


def as_dict(submission: Submission) -> dict[str, Any]:
    """Return a submission as JSON can hold it."""
    return {
        "id": submission.id,
        "form": submission.form,
        "received_at": datetime.fromtimestamp(submission.received_at, UTC).isoformat(),
        "language": submission.language,
        "held_for": list(submission.held_for),
        "fields": [
            {"name": answer.name, "label": answer.label, "values": list(answer.values)} for answer in submission.answers
        ],
    }


def write_jsonl(submissions: Submissions, file: TextIO) -> None:
    """Write one JSON object a line."""
    for submission in submissions():
        file.write(json.dumps(as_dict(submission), ensure_ascii=False) + "\n")


def write_csv(submissions: Submissions, file: TextIO) -> None:
    """Write RFC 4180 with a column for each field that any message has, repeated values on lines of one cell."""
    names: dict[str, None] = {}
    for submission in submissions():
        names.update((answer.name, None) for answer in submission.answers)
    writer = csv.writer(file)
    writer.writerow(["id", "form", "received_at", "held_for", *map(harmless, names)])
    for submission in submissions():
        at = datetime.fromtimestamp(submission.received_at, UTC).isoformat()
        values = [harmless(submission.value(name)) for name in names]
        writer.writerow([submission.id, submission.form, at, " ".join(submission.held_for), *values])


def harmless(text: str) -> str:
    """Return the text with an apostrophe before what a spreadsheet would run as a formula."""
    return "'" + text if text.startswith(_LOOKS_LIKE_A_FORMULA) else text


STYLES: Mapping[str, Callable[[Submissions, TextIO], None]] = {"csv": write_csv, "jsonl": write_jsonl}

"""Messages as files: no spreadsheet runs what a visitor wrote, and nothing of it is lost."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.submission import Answer, Submission
from pillarbox.exporting import as_dict, harmless, write_csv, write_jsonl


def submission(number: int = 1, **fields: tuple[str, ...]) -> Submission:
    answers = tuple(Answer(name, name.title(), values) for name, values in fields.items())
    return Submission(f"7K3M-9QXP-000{number}", "contact", 1_700_000_000.0, "en", answers)


def as_csv(*found: Submission) -> list[list[str]]:
    file = io.StringIO(newline="")
    write_csv(lambda: iter(found), file)
    return list(csv.reader(io.StringIO(file.getvalue(), newline="")))


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠"])
def test_what_a_spreadsheet_would_run_is_marked_as_text(sign):
    assert harmless(f"{sign}1+1") == f"'{sign}1+1"
    assert harmless(f"1{sign}1") == f"1{sign}1"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3))
def test_every_cell_comes_back_as_it_was_or_marked(values):
    text = "\n".join(values)
    header, row = as_csv(submission(message=tuple(values)))
    assert header == ["id", "form", "received_at", "held_for", "message"]
    assert row[4].removeprefix("'") == text.removeprefix("'")
    assert not row[4].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_every_field_of_any_message_has_its_column_and_its_name_is_no_formula_either():
    first, second = submission(1, name=("=1+1",)), submission(2, **{"=cmd|' /c calc'!A0": ("x", "y")})
    header, *rows = as_csv(first, second)
    assert header[4:] == ["name", "'=cmd|' /c calc'!A0"]
    assert [row[4:] for row in rows] == [["'=1+1", ""], ["", "x\ny"]]


def test_json_lines_hold_everything_a_line_each():
    found = submission(name=("Bö\u2028b\n",), extra=("a", "b"))
    file = io.StringIO()
    write_jsonl(lambda: iter([found, found]), file)
    lines = file.getvalue().split("\n")
    assert [json.loads(line) for line in lines[:2]] == [as_dict(found)] * 2
    assert lines[2:] == [""]
    assert as_dict(found)["received_at"] == "2023-11-14T22:13:20+00:00"

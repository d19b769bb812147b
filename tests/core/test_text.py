"""Text as people write it stays as it was; what is hidden in it goes."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core import text

BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
ANY = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\n", "\u0301", "\u202e", "\t", "\x1b"]))


@pytest.mark.parametrize(
    "sound", ["Zoë Müller", "李小龍", "عمر", "👩‍👩‍👧‍👦", "O’Brien <o@b>", "a\u00adb", "नमस्ते", "x" * 999]
)
def test_what_people_write_stays_as_it_is(sound):
    assert text.line(sound) == text.paragraphs(sound) == unicodedata.normalize("NFC", sound)


@pytest.mark.parametrize("ending", BREAKS)
def test_every_kind_of_line_break_is_one(ending):
    assert text.has_line_break(f"a{ending}b")
    assert text.paragraphs(f"a{ending}b{ending}") == "a\nb"


@pytest.mark.parametrize("control", [*map(chr, range(1, 9)), "\x0e", "\x1b", "\x1f", "\x7f", "\x80", "\x9b", "\x9f"])
def test_control_characters_go(control):
    assert not text.has_line_break(control)
    assert text.line(f"a{control}b") == text.paragraphs(f"a{control}b") == "ab"


@pytest.mark.parametrize("control", "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
def test_a_line_has_nothing_that_turns_its_direction(control):
    assert text.line(f"a{control}b") == "ab"
    assert text.paragraphs(f"a{control}b") == f"a{control}b"


@pytest.mark.parametrize("blank", ["", " \t\n", "\u200b", "\u200d\ufeff", "\u2060", "\u00ad", "\u3164", "\u2800"])
def test_what_cannot_be_seen_is_blank(blank):
    assert text.is_blank(blank)
    assert not text.is_blank(f"{blank}.")


def test_what_no_database_holds_is_not_keepable():
    assert not any(text.is_keepable(bad) for bad in ("\0", "\ud800", "\udfff", "a\udc80b"))
    assert text.is_keepable("\x01\ufffd\U0010ffff")


def test_a_mountain_of_marks_is_cut_to_what_a_letter_can_carry():
    assert text.line("a" + "\u0323" * 10_000) == "ạ" + "\u0323" * 29
    assert text.paragraphs(("e" + "\u0301") * 1_000) == "é" * 1_000


@given(ANY)
def test_cleaning_twice_changes_nothing_more(value):
    for clean in (text.line, text.paragraphs):
        once = clean(value)
        assert clean(once) == once
        assert not any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in once if clean != text.line)
    assert "\t" not in text.line(value) or text.has_line_break(value)

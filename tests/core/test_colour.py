"""Colours stay readable, whichever accent an owner picks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core import colour

COLOURS = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def test_contrast_is_what_the_standard_says():
    assert colour.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert colour.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert colour.contrast("#ffffff", "#777777") == colour.contrast("#777777", "#ffffff")
    assert colour.contrast("#ff0000", "#ffffff") == pytest.approx(4.0, abs=0.005)


@given(COLOURS)
def test_ink_reads_on_every_background(background):
    assert colour.contrast(colour.ink_on(background), background) >= colour.TEXT_RATIO


@given(COLOURS, COLOURS, st.sampled_from([colour.TEXT_RATIO, colour.GRAPHIC_RATIO]))
def test_every_colour_becomes_readable_on_every_background(accent, background, ratio):
    assert colour.contrast(colour.readable_on(accent, background, ratio=ratio), background) >= ratio


def test_a_colour_that_reads_already_is_left_alone():
    assert colour.readable_on("#0b5cad", "#ffffff") == "#0b5cad"


def test_a_colour_is_moved_no_further_than_needed():
    yellow = colour.readable_on("#ffd400", "#ffffff")
    red, green, blue = colour.channels(yellow)
    assert colour.contrast(yellow, "#ffffff") < 5
    assert red > green > blue


def test_mixing_goes_from_one_colour_to_the_other():
    assert colour.mix("#102030", "#ffffff", share=0) == "#102030"
    assert colour.mix("#102030", "#ffffff", share=1) == "#ffffff"
    assert colour.mix("#000000", "#ffffff", share=0.5) == "#808080"


@pytest.mark.parametrize("wrong", ["", "red", "#fff", "#12345g", "#1234567", "#123456\n", "url(x)"])
def test_what_is_no_colour_is_refused(wrong):
    with pytest.raises(ValueError, match="#rrggbb"):
        colour.channels(wrong)

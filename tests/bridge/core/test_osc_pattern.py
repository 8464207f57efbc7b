"""OSC address patterns: what they mean, and that none takes long."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge.bridge.core.osc_namespace import addresses_of
from musebridge.bridge.core.osc_pattern import matches
from musebridge.errors import ConfigError


@pytest.mark.parametrize(
    ("pattern", "name", "is_meant"),
    [
        ("low", "low", True),
        ("low", "lows", False),
        ("*", "low", True),
        ("*", "", True),
        ("l*w", "low", True),
        ("l*w", "lo", False),
        ("l?w", "low", True),
        ("low?", "low", False),
        ("[a-m]ow", "low", True),
        ("[m-a]ow", "low", False),
        ("[xl]ow", "low", True),
        ("[!a-c]ow", "low", True),
        ("[!l]ow", "low", False),
        ("[l-]ow", "-ow", True),
        ("[]ow", "low", False),
        ("{low,high}", "high", True),
        ("{low,high}er", "lower", True),
        ("{lo,low}wer", "lower", True),
        ("{,s}low", "low", True),
        ("{low,high}", "lowhigh", False),
        ("{l*w}", "low", False),  # there are no wild characters inside braces
        ("[low", "[low", True),  # what is not closed stands for itself
        ("{low", "low", False),
    ],
)
def test_a_pattern_means_what_osc_says(pattern: str, name: str, is_meant: bool) -> None:
    assert matches(pattern, name) is is_meant


@given(st.text("*?ab_", max_size=12), st.text("ab_", max_size=12))
def test_stars_and_question_marks_mean_what_shells_mean_by_them(pattern: str, name: str) -> None:
    assert matches(pattern, name) is bool(re.fullmatch(fnmatch.translate(pattern), name))


@given(st.text("*?[]{},!-ab", max_size=128), st.text("ab", max_size=32))
def test_no_pattern_fails_or_takes_long(pattern: str, name: str) -> None:
    assert matches(pattern, name) in (True, False)


def test_a_pattern_that_would_keep_a_backtracking_matcher_busy_for_years_does_not() -> None:
    assert not matches("*a" * 60 + "b", "a" * 120)


def test_a_pattern_stays_within_one_part_of_the_address() -> None:
    assert addresses_of("/*_panic") == ["/midi_panic"]
    assert addresses_of("/musebridge/param/{low,high}") == ["/musebridge/param/low", "/musebridge/param/high"]
    assert addresses_of("/*/get/[h-l]{ow,igh}") == ["/musebridge/get/low", "/musebridge/get/high"]
    assert set(addresses_of("/*")) == {"/play", "/stop", "/transport_play", "/transport_stop", "/midi_panic"}


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("/musebridge/param/x*", "pattern '/musebridge/param/x.' means no address"),
        ("/musebridge/param*low", "means no address"),
        ("/vkb_midi/*/note/*", "means more than 128 addresses"),
        ("/musebridge/param/" + "*?" * 9, "at most 128 characters, 16 of them wild"),
        ("/musebridge/param/*" + "a" * 200, "at most 128 characters, 16 of them wild"),
    ],
)
def test_a_pattern_that_means_nothing_or_too_much_is_refused(pattern: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        addresses_of(pattern)

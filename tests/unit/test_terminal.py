"""Nothing from a file moves the cursor, changes a colour or turns the direction of a line."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readwrite_edit.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J\x85\x90", r"\x9b2J\x85\x90"),
        ("a\x00b\x08c\x7f", r"a\x00b\x08c\x7f"),
        ("over\rwritten", r"over\x0dwritten"),
        ("abc\u202edcba\u2066\u2069", r"abc\u202edcba\u2066\u2069"),
        ("in\u200bvisible\u200d\ufeff\u00ad", r"in\u200bvisible\u200d\ufeff\xad"),
        ("one\u2028two\u2029", r"one\u2028two\u2029"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("lone \ud800", r"lone \ud800"),
        ("private \ue000", r"private \ue000"),
    ],
)
def test_control_and_formatting_characters_are_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text, keep_newlines=True) == shown


@pytest.mark.parametrize(
    "text", ["", "plain text", "naïve Σ ‖ΔW‖² → 你好 שלום", "cafe\u0301", "😀", r"C:\new\x1b", "\u00a0"]
)
def test_ordinary_text_in_any_script_is_left_alone(text: str) -> None:
    assert printable(text) == text


def test_line_feeds_and_tabs_pass_only_where_asked() -> None:
    assert printable("a\n\tb\r\n") == r"a\x0a\x09b\x0d\x0a"
    assert printable("a\n\tb\r\n", keep_newlines=True) == "a\n\tb\\x0d\n"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.text(st.characters()), st.booleans())
def test_no_control_character_ever_gets_through(text: str, keep_newlines: bool) -> None:
    allowed = "\n\t" if keep_newlines else ""
    shown = printable(text, keep_newlines=keep_newlines)
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") and char not in allowed for char in shown)
    shown.encode("utf-8")
    assert printable(shown, keep_newlines=keep_newlines) == shown

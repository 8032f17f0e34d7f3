"""The share of an evaluated text that had a part in the training: counted by hand, and blind to formats."""

import pytest

from readwrite_edit.evaluate.overlap import shared_fraction

END = 99
SEEN = [list(range(40))]


@pytest.mark.parametrize(
    ("evaluated", "share"),
    [
        ([list(range(100, 140))], 0.0),
        ([list(range(40))], 1.0),
        ([[*range(13), *range(100, 113)]], 0.5),  # one whole 13-gram of 26 tokens
        ([[*range(12), *range(100, 112)]], 0.0),  # twelve in a row are none
        ([list(range(5, 35)), list(range(100, 130))], 0.5),
        ([[]], 0.0),
    ],
)
def test_tokens_in_shared_thirteen_grams_are_counted(evaluated, share):
    assert shared_fraction(evaluated, SEEN) == share


def test_an_n_gram_lies_within_one_message():
    evaluated = [[*range(7), END, *range(7, 14)]]
    assert shared_fraction(evaluated, [[*range(7), END, *range(7, 14)]]) == 1.0
    assert shared_fraction(evaluated, [[*range(7), END, *range(7, 14)]], special={END}) == 0.0


def test_signs_that_repeat_themselves_are_no_content():
    rule = [1, 2] * 20
    assert shared_fraction([rule], [rule]) == 0.0


def test_the_system_prompt_of_the_template_is_no_content():
    system = list(range(200, 220))
    chat = [END, *system, END, *range(100, 115), END]
    other = [END, *system, END, *range(300, 315), END]
    assert shared_fraction([chat], [other], special={END}) == 20 / 38
    assert shared_fraction([chat], [other], special={END}, template=[END, *system, END]) == 0.0

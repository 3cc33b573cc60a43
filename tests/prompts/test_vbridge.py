"""The published sentences, held against the specification where it is at hand."""

from pathlib import Path

import pytest

from unfade.prompts.vbridge import NEGATIVE_PROMPT, PROMPT, vbridge_prompt

SPECIFICATION = Path(__file__).parents[3] / "shared" / "specs" / "vbridge.md"


def test_both_are_verbatim() -> None:
    if not SPECIFICATION.is_file():
        pytest.skip(f"no {SPECIFICATION}: the specification is not on this machine")
    text = SPECIFICATION.read_text()
    assert f'"{PROMPT}"' in text
    assert f'"{NEGATIVE_PROMPT}"' in text


def test_a_wish_is_added_and_none_changes_nothing() -> None:
    assert vbridge_prompt() == vbridge_prompt("") == vbridge_prompt("  \n") == PROMPT
    assert vbridge_prompt(" keep\n the grain ") == PROMPT + " keep the grain"

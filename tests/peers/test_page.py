"""The page of the documentation says what these tests say."""

import re

import pytest

from .behaviours import PAGE, SUITES, Behaviour, answers, behaviours, page


def test_the_page_is_made_from_the_tests():
    assert PAGE.read_text() == page(), "python -m tests.peers writes it"


def test_every_behaviour_is_said_in_a_sentence_and_names_tests_of_theirs():
    for row in behaviours():
        assert row.asks
        assert "\n" not in row.asks
        assert row.theirs
        assert all(re.fullmatch(r"test\w+", name) for name in row.theirs)
    names = [(row.suite, name) for row in behaviours() for name in row.theirs]
    assert len(names) == len(set(names))
    assert {row.suite for row in behaviours()} == set(SUITES)


def test_what_is_said_to_be_missing_and_works_is_noticed(monkeypatch):
    monkeypatch.setattr("tests.peers.behaviours._seen", [])

    @answers("test_x", missing="not yet")
    def test_works():
        """It works."""

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_works()


def test_a_verdict_is_one_of_three():
    verdicts = [Behaviour("s", ("t",), "a"), Behaviour("s", ("t",), "a", "m"), Behaviour("s", ("t",), "a", None, "w")]
    assert [row.verdict for row in verdicts] == ["passes", "missing: m", "does not apply: w"]

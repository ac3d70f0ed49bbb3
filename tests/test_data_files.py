"""Measured data that is read back: whatever the file holds, it is legal data or its reader's own one error."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from membptt_bench import record

from paper_figs import evidence

from .strategies import JSON, outcome

pytest.importorskip("torch")


def legal(schema):
    """The smallest value of every field."""
    return {field: (kind if isinstance(kind, type) else kind[0])() for field, kind in schema.items()}


METHOD = legal(record._METHOD) | {"label": "plain", "budgets": ["whole"]}
POINT = legal(record._POINT) | {"format": record.FORMAT, "methods": [METHOD], "budgets": {"whole": 1}}


@pytest.fixture
def measured(monkeypatch, tmp_path_factory):
    """The file of one figure's data, in a folder of its own."""
    monkeypatch.setattr(evidence, "DATA", tmp_path_factory.mktemp("data"))
    return evidence.measured_path("fig02b")


def read_figure(path, content):
    path.write_bytes(content)
    return outcome(lambda: evidence.load_measured("fig02b"))


@pytest.mark.parametrize("content", [b"[" * 10**5, b"\xff", b'{"figure": "fig02b", "complete": true, "x": NaN}', b""])
def test_a_figures_data_that_is_no_json_is_refused(measured, content):
    assert read_figure(measured, content) is evidence.FigureClaimError


def test_a_figures_data_cut_off_anywhere_is_refused_exhaustive(measured):
    content = {"figure": "fig02b", "complete": True, "rounds": [[1.5, 2]]}
    evidence.save_measured("fig02b", content)
    whole = measured.read_bytes().rstrip()
    assert read_figure(measured, whole) == content
    assert {read_figure(measured, whole[:end]) for end in range(len(whole))} == {evidence.FigureClaimError}


@pytest.mark.parametrize("other", [None, "membptt-measured/0", "membptt-throughput/1", 1, [], "absent"])
def test_a_figures_data_of_another_format_is_refused_by_its_name(measured, other):
    content = {"figure": "fig02b", "complete": True, "format": other}
    measured.write_text(json.dumps({key: value for key, value in content.items() if value != "absent"}))
    with pytest.raises(evidence.FigureClaimError, match=r"fig02b.json has format .*reads 'membptt-measured/1'"):
        evidence.load_measured("fig02b")


@given(JSON)
@example({"format": evidence.FORMAT})
@example({"format": evidence.FORMAT, "figure": "fig02b"})
@example({"format": evidence.FORMAT, "figure": "fig02b", "complete": 1})
def test_a_figures_data_that_says_anything_is_refused_hypothesis(tmp_path_factory, content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "DATA", tmp_path_factory.getbasetemp())
        path = evidence.measured_path("fig02b")
        assert read_figure(path, json.dumps(content).encode()) is evidence.FigureClaimError


def test_data_larger_than_any_measurement_is_refused(measured):
    assert read_figure(measured, b" " * (2**26 + 1)) is evidence.FigureClaimError


def test_the_legal_record_that_is_changed_below_is_legal():
    assert record.check(POINT) == POINT


@given(st.dictionaries(st.sampled_from([*record._POINT, "more"]), JSON) | JSON)
@example({"rounds": [3]})
@example({"rounds": [{"seconds": 3}]})
@example({"rounds": [{"seconds": {}}]})
@example({"rounds": [{}]})
@example({"methods": [3]})
@example({"rounds_wanted": float("nan")})
def test_a_record_that_says_anything_is_refused_hypothesis(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "point.json"
    path.write_text(json.dumps({**POINT, **changes} if isinstance(changes, dict) else changes))
    found = outcome(lambda: record.load(path))
    assert found is record.RecordError or found.keys() == POINT.keys()


@given(st.sampled_from([*record._METHOD]), JSON)
@example("budgets", [[]])
@example("label", [])
@example("label", {})
def test_a_method_that_says_anything_is_refused_hypothesis(tmp_path_factory, field, value):
    path = tmp_path_factory.getbasetemp() / "point.json"
    path.write_text(json.dumps({**POINT, "methods": [METHOD | {field: value}]}))
    found = outcome(lambda: record.load(path))
    assert found is record.RecordError or found.keys() == POINT.keys()

"""Measured data that is read back: whatever the file holds, its reader returns legal data or raises its own error."""

import copy
import functools
import json
import operator
import shutil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench import record, store
from paper_figs import evidence, fig10, make

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
    monkeypatch.setattr(store, "DATA", tmp_path_factory.mktemp("data"))
    return store.path_of("fig02b")


def read_figure(path, content):
    path.write_bytes(content)
    return outcome(lambda: evidence.load_measured("fig02b"))


@pytest.mark.parametrize("content", [b"[" * 10**5, b"\xff", b'{"figure": "fig02b", "complete": true, "x": NaN}', b""])
def test_figure_data_that_is_not_json_is_refused(measured, content):
    assert read_figure(measured, content) is evidence.FigureClaimError


def test_figure_data_cut_off_anywhere_is_refused_exhaustive(measured):
    content = {"figure": "fig02b", "complete": True, "rounds": [[1.5, 2]]}
    store.save_figure("fig02b", content)
    whole = measured.read_bytes().rstrip()
    assert read_figure(measured, whole) == content
    assert {read_figure(measured, whole[:end]) for end in range(len(whole))} == {evidence.FigureClaimError}


@pytest.mark.parametrize("other", [None, "membptt-measured/0", "membptt-throughput/1", 1, [], "absent"])
def test_figure_data_of_another_format_is_refused_by_its_name(measured, other):
    content = {"figure": "fig02b", "complete": True, "format": other}
    measured.write_text(json.dumps({key: value for key, value in content.items() if value != "absent"}))
    with pytest.raises(evidence.FigureClaimError, match=r"fig02b.json has format .*reads 'membptt-measured/1'"):
        evidence.load_measured("fig02b")


@given(JSON)
@example({"format": store.FIGURE})
@example({"format": store.FIGURE, "figure": "fig02b"})
@example({"format": store.FIGURE, "figure": "fig02b", "complete": 1})
def test_a_figures_data_that_says_anything_is_refused_hypothesis(tmp_path_factory, content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "DATA", tmp_path_factory.getbasetemp())
        path = store.path_of("fig02b")
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
def test_a_record_of_arbitrary_content_is_refused_or_legal_hypothesis(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "point.json"
    path.write_text(json.dumps({**POINT, **changes} if isinstance(changes, dict) else changes))
    result = outcome(lambda: record.load(path))
    assert result is record.RecordError or result.keys() == POINT.keys()


@given(st.sampled_from([*record._METHOD]), JSON)
@example("budgets", [[]])
@example("label", [])
@example("label", {})
def test_a_method_of_arbitrary_content_is_refused_or_legal_hypothesis(tmp_path_factory, field, value):
    path = tmp_path_factory.getbasetemp() / "point.json"
    path.write_text(json.dumps({**POINT, "methods": [METHOD | {field: value}]}))
    result = outcome(lambda: record.load(path))
    assert result is record.RecordError or result.keys() == POINT.keys()


# Every figure drawn from measured files, and which of its files is changed below.
CHANGED = {
    "fig02b": store.DATA / "fig02b.json",
    "fig05b": store.DATA / "fig05b.json",
    "fig_charlm": store.DATA / "fig_charlm.json",
    "fig09": store.DATA / "long_sequence_1000000.json",
    "fig10": store.DATA / "side_by_side_cpu_lstm_1000.json",
    "fig11": store.DATA / "throughput_lstm_64.json",
    "fig12": store.DATA / "fig12_ten.json",
}
CONTENT = {name: json.loads(path.read_text()) for name, path in CHANGED.items()}


def places(value, place=()):
    """Every place inside a value of JSON; of a list only the first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*place, key)
        yield from places(each, (*place, key))


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """A folder with copies of all committed data, which the figures read; of figure 10 one cell at one length."""
    folder = tmp_path_factory.mktemp("copies")
    shutil.copytree(store.DATA, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "DATA", folder)
        patch.setattr(fig10, "CELLS", {"lstm": fig10.CELLS["lstm"]})
        patch.setattr(fig10, "LENGTHS", (1000,))
        yield folder


def read_changed(copies, name, place, change):
    """What figure `name` reads from its file after ``change(container, key)`` at one place."""
    content = copy.deepcopy(CONTENT[name])
    change(functools.reduce(operator.getitem, place[:-1], content), place[-1])
    file = copies / CHANGED[name].name
    file.write_text(json.dumps(content))
    try:
        return outcome(make.load(name).data)
    finally:
        file.write_text(json.dumps(CONTENT[name]))


def is_refused(result):
    return result in (evidence.FigureClaimError, evidence.DataMissingError)


@pytest.mark.parametrize("name", CHANGED)
def test_figure_data_that_lacks_anything_is_refused_or_does_not_need_it_exhaustive(copies, name):
    results = {place: read_changed(copies, name, place, operator.delitem) for place in places(CONTENT[name])}
    foreign = {
        place: result for place, result in results.items() if isinstance(result, type) and not is_refused(result)
    }
    assert not foreign
    assert sum(map(is_refused, results.values())) > 5


@pytest.mark.parametrize("name", CHANGED)
@given(st.data())
def test_figure_data_with_anything_in_any_place_is_refused_or_read_hypothesis(copies, name, data):
    place = data.draw(st.sampled_from([*places(CONTENT[name])]))
    value = data.draw(JSON)
    result = read_changed(copies, name, place, lambda container, key: container.__setitem__(key, value))
    assert is_refused(result) or not isinstance(result, type)

"""The store of measurements: one way to read, to write and to go on; figures only read."""

import ast
import json
import platform
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from bench import machine, measurements, store
from paper_figs import make

from .strategies import JSON, outcome

ROOT = Path(__file__).parents[1]
FRESH = {"format": "membptt-test/1", "command": "python -m a", "threads": 1, "sizes": {"a": 1}, "rounds": []}


def test_a_measurement_begins_afresh_where_there_is_no_file(tmp_path):
    assert store.resume(tmp_path / "a.json", FRESH, ("rounds",)) is FRESH


def test_a_measurement_goes_on_with_what_is_there_under_the_same_conditions(tmp_path):
    held = {**FRESH, "rounds": [1, 2], "command": "python older.py"}
    store.save(tmp_path / "a.json", held)
    assert store.resume(tmp_path / "a.json", FRESH, ("rounds",)) == held


@pytest.mark.parametrize("key", ["threads", "sizes"])
def test_a_measurement_under_any_other_condition_is_refused_exhaustive(key, tmp_path):
    for value in (None, 0, 2, "1", [], {}, {"a": 2}):
        store.save(tmp_path / "a.json", {**FRESH, key: value})
        with pytest.raises(store.StoreError, match=f"a.json was measured with another {key}: move it away"):
            store.resume(tmp_path / "a.json", FRESH, ("rounds",))
    (tmp_path / "a.json").rename(tmp_path / "away.json")  # as the message says
    assert store.resume(tmp_path / "a.json", FRESH, ("rounds",)) is FRESH


@given(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(FRESH, JSON)))
def test_a_file_that_says_anything_is_gone_on_with_or_refused_hypothesis(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    resumed = outcome(lambda: store.resume(path, FRESH, ("rounds",)))
    same = isinstance(content, dict) and content.keys() == FRESH.keys()
    if same and all(content[key] == FRESH[key] for key in ("format", "threads", "sizes")):
        assert resumed == content
    else:
        assert resumed is store.StoreError


@pytest.mark.parametrize("keys", [("rounds",), ("threads", "format"), ()])
def test_a_file_that_lacks_a_key_or_has_another_is_refused(keys, tmp_path):
    fewer = {key: value for key, value in FRESH.items() if key not in keys}
    store.save(tmp_path / "a.json", fewer if keys else {**FRESH, "more": 1})
    with pytest.raises(store.StoreError, match=r"a\.json"):
        store.resume(tmp_path / "a.json", FRESH, ("rounds",))


XEON, EPYC = "Intel(R) Xeon(R) Processor @ 2.80GHz", "AMD EPYC 7763 64-Core Processor"


@pytest.mark.parametrize(
    ("processor", "name"),
    [
        (XEON, "xeon"),
        (EPYC, "epyc"),
        ("AMD EPYC", "epyc"),
        ("AMD EPYC (family 26, model 2)", "epyc26m2"),
        (f"{XEON} (family 6, model 143)", "xeon6m143"),
        ("Apple M3", "m3"),
        ("NVIDIA H200", "h200"),
        ("", ""),
    ],
)
def test_a_processor_is_named_by_one_word(processor, name):
    assert store.short_name(processor) == name


def test_what_another_processor_measures_lies_beside_the_first_ones(tmp_path):
    path = tmp_path / "a.json"
    first, other = ({**FRESH, "device_name": name} for name in (XEON, EPYC))
    store.save(path, {**first, "rounds": [1]})
    assert store.resume(path, other, ("rounds",)) == other
    store.save(path, {**other, "rounds": [2]})
    assert store.resume(path, other, ("rounds",))["rounds"] == [2]
    assert store.resume(path, first, ("rounds",))["rounds"] == [1]
    assert store.processors(path) == {"xeon": path, "epyc": tmp_path / "a_epyc.json"}


@pytest.mark.parametrize(
    ("info", "name"),
    [
        (
            "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel\t: 9\n",
            None,
        ),
        ("model name\t: Some Core\n", "Some Core"),
        ("", platform.processor() or platform.machine()),
    ],
)
def test_processors_that_call_themselves_alike_are_told_apart_by_family_and_model(info, name, tmp_path):
    (tmp_path / "cpuinfo").write_text(info)
    assert machine.cpu_name(tmp_path / "cpuinfo") == (name or "AMD EPYC (family 26, model 2)")


def test_a_processor_whose_kind_is_told_does_not_go_on_with_the_file_of_one_whose_kind_is_not(tmp_path):
    path = tmp_path / "a.json"
    store.save(path, {**FRESH, "device_name": "AMD EPYC", "rounds": [1]})
    told = {**FRESH, "device_name": "AMD EPYC (family 26, model 2)"}
    assert store.resume(path, told, ("rounds",)) == told
    store.save(path, told)
    assert store.processors(path) == {"epyc": path, "epyc26m2": tmp_path / "a_epyc26m2.json"}


def test_a_file_of_another_name_is_no_other_processors(tmp_path):
    for name, processor in (("a", XEON), ("a_adding", EPYC), ("a_adding_xeon", XEON)):
        store.save(tmp_path / f"{name}.json", {**FRESH, "device_name": processor})
    assert store.processors(tmp_path / "a.json") == {"xeon": tmp_path / "a.json"}
    assert list(store.processors(tmp_path / "a_adding.json")) == ["epyc", "xeon"]


def test_every_committed_file_of_a_second_processor_lies_beside_a_firsts():
    names = re.compile(r"(xeon|epyc)(\d+m\d+)?")
    later = [path for path in store.DATA.glob("*.json") if names.fullmatch(path.stem.rpartition("_")[2])]
    assert later
    for path in later:
        first = path.with_stem(path.stem.rpartition("_")[0])
        assert path in store.processors(first).values()
        assert len(store.processors(first)) > 1


def test_all_data_lie_in_one_folder_and_are_of_a_format_of_the_project():
    committed = {path for path in ROOT.rglob("*.json") if "data" in path.parts and ".venv" not in str(path)}
    assert {path.parent for path in committed} == {store.DATA}
    assert len(committed) > 25
    assert all(json.loads(path.read_text())["format"].startswith("membptt-") for path in committed)


def test_measuring_a_figure_runs_its_measurement_and_nothing_else(monkeypatch, capsys):
    measured = []
    for name in measurements.MEASURED:
        monkeypatch.setitem(measurements._MEASUREMENTS, name, lambda name=name: measured.append(name))
    assert make.main(["fig09", "fig03", "fig02b", "--measure"]) == 0
    assert measured == ["fig09", "fig02b"]
    assert make.main(["fig03", "--measure"]) == 1
    assert "nothing to measure: fig03" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figure", "script", "arguments"),
    [("fig09", "long_sequence", []), ("fig10", "side_by_side", []), ("fig11", "throughput", [])],
)
def test_a_figure_of_methods_is_measured_by_its_benchmark(figure, script, arguments, monkeypatch):
    called = []
    monkeypatch.setattr(f"bench.{script}.main", called.append)
    measurements.measure(figure)
    assert called == [arguments]


WRITES = {"save", "save_figure", "sweep", "runpy", "write_measured"}


def test_figures_only_read():
    """None writes data or runs a script; but for the command of figure 12, which trains on a user's own sets."""
    for path in sorted((ROOT / "paper_figs").glob("*.py")):
        tree = ast.parse(path.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "store"
        }
        assert names & WRITES == ({"sweep"} if path.name == "fig12.py" else set()), path.name
        assert not [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "measure"]

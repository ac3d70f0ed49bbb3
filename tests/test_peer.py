"""JAX's and equinox's loops beside ours: measured in another Python, resumed, read for figure 15."""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import operator
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import cells, methods, record, side_by_side, store
from bench import while_loop as benchmark
from bench.peer import Loop, Peer, PeerError
from membptt_theory import online
from paper_figs import evidence, fig15

from .strategies import JSON, outcome

OWN = Path(__file__).parents[1] / ".venv-peers/bin/python"
SIZES = ["--problems", "relaxation", "--steps", "10", "--slots", "2", "3", "--no-torch"]
SCAN = Loop("scan")
COMMITTED = {
    steps: store.read(store.path_of(f"while_loop_relaxation_{steps}"), fig15.FORMAT) for steps in fig15.MEASURED
}


@pytest.fixture
def peers():
    """A Python that has jax and equinox."""
    if OWN.exists():
        return str(OWN)
    if importlib.util.find_spec("jax") and importlib.util.find_spec("equinox"):
        return sys.executable
    pytest.skip("jax and equinox are not installed here, nor is there a .venv-peers")


@pytest.fixture
def program(tmp_path):
    """Make a program of Python's that stands in for the other Python."""

    def written(text):
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\nimport json, sys\n{text}")
        path.chmod(0o755)
        return str(path)

    return written


def ask(python, cell="lstm", calls=10, loops=(SCAN,)):
    """The peer on a tiny cell, and the cell as torch has it."""
    unit = {"state-space": 5}.get(cell, 1)
    on = cells.problem(cell, calls * unit, quick=True)
    return Peer(python, "sequence", cell, calls, loops, weights=on.params, init=on.init, xs=on.xs), on


def measure(folder, *options):
    benchmark.main([*SIZES, *options, "--data", str(folder)])
    return json.loads((folder / "while_loop_relaxation_10.json").read_text())


def test_equinox_and_jax_are_measured_where_they_are_installed_and_agree_with_torch(peers, tmp_path, capsys):
    content = measure(tmp_path, "--rounds", "2", "--peers", peers)
    methods = content["methods"]
    assert list(content["rounds"][1]) == sorted(methods)
    assert {"jax", "jaxlib", "equinox", "torch"} <= content["versions"].keys()
    assert all(method["gradient_error"] <= fig15.ROUNDING for method in methods.values())
    assert methods["jax scan"]["forwards"] == 10
    assert methods["equinox m=2"]["forwards"] == online.cost(10, 2, policy="equinox")
    peaks = [methods[label]["peak_bytes"] for label in ("equinox m=2", "equinox m=3", "jax scan")]
    assert peaks == sorted(set(peaks))
    assert "of scan's" in capsys.readouterr().out


# Answers as `bench/jax_loops.py` does, with start and weights for gradients.
STAND_IN = """
import numpy as np
asked = json.loads(sys.stdin.readline())
given = np.load(asked["arrays"])
leaves = [given[name] for name in ("init 0", *(f"weight {index}" for index in range(4)))]
np.savez(asked["gradients"], **{f"{label} {i}": leaf for label in asked["methods"] for i, leaf in enumerate(leaves)})
counts = zip(asked["methods"], [10, *FORWARDS])
methods = {label: {"peak_bytes": 1, "forwards": forwards} for label, forwards in counts}
print(json.dumps({"versions": {"jax": "0"}, "methods": methods}), flush=True)
for _ in sys.stdin:
    print(0.5, flush=True)
"""
RIGHT = STAND_IN.replace("FORWARDS", str([online.cost(10, m, policy="equinox") for m in (2, 3)]))


@pytest.mark.parametrize("cell", list(cells.CELLS))
def test_every_cell_in_jax_has_the_gradient_of_torchs_under_every_loop(peers, cell):
    peer, on = ask(peers, cell, 12, [Loop("scan"), Loop("checkpoint", 4), Loop("equinox", 3)])
    with peer:
        methods.plain(on)
    for gradients in peer.gradients.values():
        assert [leaf.shape for leaf in gradients] == [param.shape for param in on.params]
        for computed, param in zip(gradients, on.params, strict=True):
            assert float((computed - param.grad).abs().max()) <= 1e-5 * float(param.grad.abs().max())
    counted = {label: method["forwards"] for label, method in peer.methods.items()}
    assert counted == {
        "jax scan": 12,
        "jax checkpoint by 4": 24,
        "equinox m=3": online.cost(12, 3, policy="equinox"),
    }


def test_the_side_by_side_table_has_jax_and_equinox_where_they_are_installed(peers, tmp_path, capsys):
    options = ["--quick", "--few", "--no-compile", "--cells", "gru", "--steps", "100", "--rounds", "1"]
    side_by_side.main([*options, "--peers", peers, "--data", str(tmp_path)])
    point = record.load(tmp_path / "side_by_side_cpu_gru_100.json")
    theirs = {method["label"]: method for method in point["methods"] if method["family"] == "jax"}
    assert list(theirs) == ["jax scan", "jax checkpoint by 4", "jax checkpoint by 10", "equinox m=50", "equinox m=20"]
    assert all(method["settings"]["gradient_error"] < 1e-4 for method in theirs.values())
    assert theirs["jax checkpoint by 10"]["forwards"] == 200
    assert point["budgets"]["equinox m=20"] == theirs["equinox m=20"]["peak_bytes_with_gradients"]
    assert {"jax", "equinox"} <= point["versions"].keys()
    assert "jax checkpoint by 10" in capsys.readouterr().out


def test_a_measurement_with_peers_goes_on_where_it_was_cut_off_and_with_the_same_peers_only(program, tmp_path):
    peers = program(RIGHT)
    first = measure(tmp_path, "--rounds", "1", "--peers", peers)
    assert first["rounds"][0]["equinox m=3"] == 0.5
    assert first["methods"]["equinox m=2"]["time_over_scan"] == 1
    assert first["methods"]["equinox m=2"]["gradient_error"] > 1e-3  # weights are no gradients
    second = measure(tmp_path, "--rounds", "2", "--peers", peers)
    assert second["rounds"][0] == first["rounds"][0]
    assert len(second["rounds"]) == 2
    for others in ([], ["--peers", program(RIGHT.replace('"jax": "0"', '"jax": "1"'))]):
        with pytest.raises(store.StoreError, match=r"measured with another versions.*move it away"):
            measure(tmp_path, "--rounds", "3", *others)
    (tmp_path / "while_loop_relaxation_10.json").unlink()
    assert "jax" not in measure(tmp_path, "--rounds", "1")["versions"]


def test_a_peer_that_evaluates_more_or_less_than_equinox_is_refused(program, tmp_path):
    with pytest.raises(RuntimeError, match="equinox m=3: 7 forwards, not"):
        measure(
            tmp_path, "--peers", program(STAND_IN.replace("FORWARDS", str([online.cost(10, 2, policy="equinox"), 7])))
        )


@pytest.mark.parametrize("text", ["sys.exit(1)", "print('no JSON')", "import no_such_module"])
def test_a_python_that_gives_no_answer_is_refused_with_what_it_needs(program, text, capfd):
    with pytest.raises(PeerError, match="gave no answer: jax and equinox have to be installed there"):
        ask(program(text))


def test_a_python_that_is_not_there_is_refused_with_what_to_name(tmp_path):
    with pytest.raises(PeerError, match=r"cannot be started.*name a Python with the extra `peers`"):
        ask(str(tmp_path / "none"))


def test_what_is_committed_is_read():
    every = {steps: store.processors(store.path_of(f"while_loop_relaxation_{steps}")) for steps in fig15.MEASURED}
    assert {tuple(files) for files in every.values()} == {("xeon", "epyc")}
    for processor in ("xeon", "epyc"):
        files = {steps: store.read(paths[processor], fig15.FORMAT) for steps, paths in every.items()}
        measured = fig15.check(files)
        assert processor in measured.where.lower()
    assert set(measured.dots) == {100, 1000}


@pytest.mark.parametrize(
    ("label", "field", "value", "says"),
    [
        ("membptt m=5", "forwards", 415, "membptt m=5, t = 100: 415 forwards, not 416"),
        ("equinox m=5", "forwards", 416, "equinox m=5, t = 100: 416 forwards, not 460"),
        ("plain", "forwards", 101, "plain, t = 100"),
        ("equinox m=10", "gradient_error", 2e-5, "its gradient is off by 2e-05"),
        ("membptt m=10", "peak_bytes", 233520, "m = 10: the bytes grow with the length"),
        ("membptt m=10", "peak_bytes", 300000, "of the plain loop's bytes, not"),
        ("jax scan", "peak_bytes", 10**6, "equinox, t = 100"),
        ("torch while_loop", "peak_bytes", 10**6, "torch while_loop, t = 100"),
    ],
)
def test_a_measurement_that_says_something_else_than_figure_15_is_refused(label, field, value, says):
    files = copy.deepcopy(COMMITTED)
    files[100]["methods"][label][field] = value
    with pytest.raises(evidence.FigureClaimError, match=says):
        fig15.check(files)


def places(value, place=()):
    """Every place inside a value of JSON; of a list only the first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*place, key)
        yield from places(each, (*place, key))


PLACES = [*places(COMMITTED[100])]


def read_changed(place, change):
    """What figure 15 reads after ``change(container, key)`` at one place of its first file."""
    files = {**COMMITTED, 100: copy.deepcopy(COMMITTED[100])}
    change(functools.reduce(operator.getitem, place[:-1], files[100]), place[-1])

    def read():
        with evidence.reading("fig15"):
            return fig15.check(files)

    return outcome(read)


def test_a_file_of_figure_15_that_lacks_anything_is_refused_or_does_not_need_it_exhaustive():
    results = [read_changed(place, operator.delitem) for place in PLACES]
    refused = [result is evidence.FigureClaimError for result in results]
    assert all(no or isinstance(result, fig15.Measured) for no, result in zip(refused, results, strict=True))
    assert sum(refused) > 20


@given(st.sampled_from(PLACES), JSON)
def test_a_file_of_figure_15_with_anything_in_any_place_is_refused_or_read_hypothesis(place, value):
    result = read_changed(place, lambda container, key: container.__setitem__(key, value))
    assert result is evidence.FigureClaimError or isinstance(result, fig15.Measured)

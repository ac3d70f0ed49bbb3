"""Every notebook is paired with its text, committed executed, and runs from anywhere on a fresh kernel."""

from __future__ import annotations

import ast
import asyncio
import copy
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sympy as sp

from membptt_theory.claims import CLAIMS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RUNTIME = ("01_ten_lines", "02_budget", "03_profile", "10_while_loop", "11_chains")  # these measure, and need torch
PLAIN = FOLDER / "04_hsm.ipynb"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_every_text_has_its_notebook_and_every_notebook_its_text() -> None:
    theory = ["04_hsm", "05_ism", "06_msm", "07_bounds", "08_chen", "09_why_optimal"]
    assert [path.stem for path in NOTEBOOKS] == sorted(["00_explorer", *RUNTIME, *theory])
    assert [path.with_suffix(".py") for path in NOTEBOOKS] == sorted(FOLDER.glob("[0-9]*.py"))
    assert [path for path in ROOT.rglob("*.ipynb") if path.parent != FOLDER and ".venv" not in str(path)] == []


@each_notebook
def test_a_notebook_has_the_cells_of_its_text(path: Path) -> None:
    assert differing_cells(load(path), read_text(path.with_suffix(".py"))) == []


@each_notebook
def test_a_notebook_was_committed_executed_without_errors(path: Path) -> None:
    assert flaws(load(path)) == []
    assert torn_streams(load(path)) == []


def pictures(notebook: Any) -> list[Any]:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return [output for output in outputs if "image/png" in output.get("data", {})]


@each_notebook
def test_every_picture_has_an_alternative_text(path: Path) -> None:
    assert all(len(output.metadata["image/png"]["alt"]) >= 15 for output in pictures(load(path)))


def test_an_alternative_text_names_the_section_and_what_stands_before() -> None:
    from notebooks.execute import describe_pictures

    notebook = load(FOLDER / "04_hsm.ipynb")
    wanted = [output.metadata["image/png"].pop("alt") for output in pictures(notebook)]
    describe_pictures(notebook)
    assert [output.metadata["image/png"]["alt"] for output in pictures(notebook)] == wanted
    assert "Picture of: Every optimal split. The optimal y form an interval, never empty" in wanted


@each_notebook
def test_a_notebook_ends_by_asserting_known_claims(path: Path) -> None:
    assert claim_flaws(load(path)) == []


@each_notebook
def test_a_notebook_is_set_up_in_three_lines_at_most(path: Path) -> None:
    assert len(lines_of(sources_of(path)[0])) <= 3


def test_ten_lines_of_product_stand_at_the_top_of_the_first_notebook() -> None:
    lines = lines_of(sources_of(FOLDER / "01_ten_lines.ipynb")[1])
    (end,) = (number for number, line in enumerate(lines, start=1) if ".backward()" in line)
    assert end <= 10
    assert "scan(step, init, xs" in lines[end - 2]


@each_notebook
def test_a_notebook_runs_top_to_bottom_from_another_directory(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = load(path)
    committed = printed(notebook)
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    work = tmp_path / "work"
    work.mkdir()
    execute(notebook, work, path.stem)
    assert flaws(notebook) == []
    assert list(work.iterdir()) == []
    if path.stem not in RUNTIME:  # exact integers, the same everywhere; a runtime notebook may print times
        assert printed(notebook) == committed


def test_the_sliders_of_the_explorer_redraw_it(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = load(FOLDER / "00_explorer.ipynb")
    last = next(index for index, cell in enumerate(notebook.cells) if "interactive_output" in cell.source)
    states = {"t": 40, "m": 10, "alpha": 5, "policy": "ism"}
    moved = [nbformat.v4.new_code_cell(f"controls[{name!r}].value = {value!r}") for name, value in states.items()]
    shown = nbformat.v4.new_code_cell("explore(t=40, m=10, alpha=5, policy='ism'); print(*picture.outputs)")
    notebook.cells = [*notebook.cells[: last + 1], *moved, shown]
    execute(notebook, tmp_path, "explorer")
    direct = notebook.cells[-1].outputs[1].text
    ism = "ISM                         208 forwards    5.200 a step"
    assert ism in direct.split("\n\n")[0]
    drawn = notebook.cells[-1].outputs[-1].text
    assert "image/png" in drawn
    assert ism in drawn


def test_a_reply_whose_event_a_widget_used_up_is_noticed_within_a_second() -> None:
    pytest.importorskip("nbclient")
    zmq_asyncio = pytest.importorskip("zmq.asyncio")
    import zmq

    from notebooks.execute import Client

    async def waited() -> tuple[bool, bool]:
        context = zmq_asyncio.Context()
        mine, kernel = context.socket(zmq.DEALER), zmq.Context.shadow(context.underlying).socket(zmq.ROUTER)
        try:
            mine.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
            await mine.send(b"execute")
            sender, _ = kernel.recv_multipart()
            reply = asyncio.ensure_future(mine.poll(60_000))
            await asyncio.sleep(0.1)
            kernel.send_multipart([sender, b"reply"])
            time.sleep(0.1)
            zmq.Socket.shadow(mine.underlying).send(b"widget")
            await asyncio.sleep(0.2)
            hidden = not reply.done()
            client = Client(nbformat.v4.new_notebook())
            client.kc = SimpleNamespace(shell_channel=SimpleNamespace(socket=mine), is_alive=lambda: True)
            await client._async_check_alive()
            await asyncio.wait([reply], timeout=1)
            return hidden, reply.done()
        finally:
            mine.close(0)
            kernel.close(0)
            context.term()

    nbformat = pytest.importorskip("nbformat")
    assert asyncio.run(waited()) == (True, True)


def test_every_flaw_of_a_notebook_is_found() -> None:
    path = PLAIN
    good, text = load(path), read_text(path.with_suffix(".py"))
    assert (differing_cells(good, text), flaws(good), claim_flaws(good)) == ([], [], [])

    changed = copy.deepcopy(good)
    changed.cells[1].source += "\npass"
    assert differing_cells(changed, text) == [1]
    assert differing_cells(good, {**text, "cells": text["cells"][:-1]}) == [len(good.cells) - 1]

    code = [index for index, cell in enumerate(good.cells) if cell.cell_type == "code"]
    unexecuted, failed, stale, noisy = (copy.deepcopy(good) for _ in range(4))
    unexecuted.cells[code[0]].execution_count = None
    failed.cells[code[1]].outputs[0]["output_type"] = "error"
    stale.cells[code[2]].outputs = []
    noisy.cells[code[3]].metadata["execution"] = {"iopub.execute_input": "2020-01-01T00:00:00Z"}
    assert all(flaws(notebook) for notebook in (unexecuted, failed, noisy))
    torn = copy.deepcopy(good)
    torn.cells[-1].outputs += copy.deepcopy(torn.cells[-1].outputs)
    assert torn_streams(torn)
    for cell in stale.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    assert "no figure" in flaws(stale)

    unknown, silent, absent = (copy.deepcopy(good) for _ in range(3))
    unknown.cells[-1].source = unknown.cells[-1].source.replace("hsm-recurrence", "hsm-is-fastest")
    silent.cells[-1].outputs = []
    absent.cells = absent.cells[:-1]
    assert all(claim_flaws(notebook) for notebook in (unknown, silent, absent))


def test_a_failing_cell_fails_the_execution(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 + 1 == 3")])
    with pytest.raises(CellExecutionError, match="AssertionError"):
        execute(notebook, tmp_path, "failing")


def test_a_failing_check_fails_the_last_cell(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    from nbclient.exceptions import CellExecutionError

    notebook = load(PLAIN)
    imports = next(cell for cell in notebook.cells if cell.cell_type == "code")
    sabotage = "from membptt_proofs.checks import CHECKS\nCHECKS['hsm-splits'] = lambda _: 1 / 0"
    notebook.cells = [imports, nbformat.v4.new_code_cell(sabotage), notebook.cells[-1]]
    with pytest.raises(CellExecutionError, match=r"FAILED.*hsm-splits.*ZeroDivisionError"):
        execute(notebook, tmp_path, "sabotaged")


def sources_of(path: Path) -> list[str]:
    """Return the sources of the code cells."""
    return [cell.source for cell in load(path).cells if cell.cell_type == "code"]


def lines_of(source: str) -> list[str]:
    """Return the lines that are not empty."""
    return [line for line in source.splitlines() if line.strip()]


def test_the_claims_at_the_end_are_printed_with_their_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    from membptt_proofs.notebook import check_claims

    assert check_claims(("hsm-splits", "scan-forwards-equal-table"), {"scan-forwards-equal-table": True})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["OK", "OK"]
    assert ["hsm-splits" in lines[0], "scan-forwards-equal-table" in lines[1]] == [True, True]
    assert "here, and in tests/" in lines[1]


@pytest.mark.parametrize("ran_here", [{"hsm-splits": False}, {}])
def test_a_claim_that_does_not_hold_is_printed_and_returned_as_failed(
    ran_here: dict[str, bool], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from membptt_proofs.checks import CHECKS
    from membptt_proofs.notebook import check_claims

    monkeypatch.setitem(CHECKS, "hsm-splits", lambda _: 1 / 0)
    assert not check_claims(("hsm-recurrence", "hsm-splits"), ran_here)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["OK", "FAILED"]


def test_a_claim_that_the_ledger_does_not_have_is_refused() -> None:
    from membptt_proofs.notebook import check_claims

    with pytest.raises(KeyError, match="hsm-is-fastest"):
        check_claims(("hsm-is-fastest",))


def test_a_derivation_is_shown_only_where_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("IPython")
    from membptt_proofs.notebook import show_derivation
    from membptt_theory.derive import hsm
    from membptt_theory.derive.steps import Identity

    derivation = hsm.closed_form()
    show_derivation(derivation)
    assert "Markdown" in capsys.readouterr().out
    refuted = replace(derivation, steps=(*derivation.steps, Identity("one is two", sp.Integer(1), sp.Integer(2))))
    with pytest.raises(ValueError, match=r"does not hold: .*one is two"):
        show_derivation(refuted)


def test_the_look_of_the_notebooks_is_set_for_the_plots_that_follow() -> None:
    mpl = pytest.importorskip("matplotlib")
    from membptt_proofs.notebook import set_style

    with mpl.rc_context():
        set_style()
        assert (mpl.rcParams["figure.figsize"], mpl.rcParams["axes.spines.top"]) == ([7.0, 2.9], False)


def differing_cells(notebook: Any, text: Any) -> list[int]:
    """Return the numbers of the cells whose kind or source is not the text's."""
    ours, theirs = (
        [(cell["cell_type"], cell["source"].strip()) for cell in book["cells"]] for book in (notebook, text)
    )
    longest = max(len(ours), len(theirs))
    return [index for index in range(longest) if ours[index : index + 1] != theirs[index : index + 1]]


def flaws(notebook: Any) -> list[str]:
    """Return what a notebook committed as executed must not have."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    seen = []
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        seen.append("not executed once, top to bottom")
    if any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs):
        seen.append("an error or a warning")
    if not any("image/png" in output.get("data", {}) for output in outputs):
        seen.append("no figure")
    if any(cell.metadata for cell in notebook.cells) or str(ROOT) in str(outputs):
        seen.append("times or places of a machine")
    if notebook.metadata.kernelspec.name != "python3":
        seen.append("not the python3 kernel")
    return seen


def torn_streams(notebook: Any) -> list[Any]:
    """Return pieces that follow on one stream: a kernel cuts as it comes, so what is committed is joined."""
    return [
        other
        for cell in notebook.cells
        for piece, other in pairwise(cell.get("outputs", []))
        if piece.output_type == other.output_type == "stream" and piece.name == other.name
    ]


def claim_flaws(notebook: Any) -> list[str]:
    """Return what is wrong with the last cell: it names claims of the ledger, and printed OK for each."""
    last = notebook.cells[-1]
    if last.cell_type != "code":
        return ["the last cell is text"]
    named = [
        ast.literal_eval(node.value)
        for node in ast.parse(last.source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CLAIMS"
    ]
    if len(named) != 1 or not named[0] or "assert" not in last.source:
        return ["the last cell asserts no CLAIMS"]
    known = {claim.id for claim in CLAIMS}
    lines = [line.split() for output in last.outputs for line in output.get("text", "").splitlines()]
    passed = {word for line in lines if line[:1] == ["OK"] for word in line}
    return [claim for claim in named[0] if claim not in known & passed]


def printed(notebook: Any) -> list[str]:
    """Return what the cells print."""
    return ["".join(output.text for output in cell.get("outputs", []) if "text" in output) for cell in notebook.cells]


def execute(notebook: Any, folder: Path, name: str) -> None:
    """Run every cell in place, on a fresh kernel whose working directory is `folder`."""
    pytest.importorskip("nbclient")
    from notebooks.execute import execute as run

    run(notebook, name, folder)


def load(path: Path) -> Any:
    """Read a notebook."""
    return pytest.importorskip("nbformat").read(path, as_version=4)


def read_text(path: Path) -> Any:
    """Read the py:percent text of a notebook."""
    return pytest.importorskip("jupytext").read(path)

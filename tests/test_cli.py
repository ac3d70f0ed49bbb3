"""The command line: every example of every help runs, numbers are the library's, refusals say what to do."""

import argparse
import ast
import csv
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from membptt_cli import parsing, schedules, tables
from membptt_cli.__main__ import main, parser
from membptt_theory.footprint import Measured
from membptt_theory.limits import Limit
from membptt_theory.options import options
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, optimal_cost

ROOT = Path(__file__).parents[1]


MODEL = """
import torch

weight = torch.nn.Parameter(torch.ones(8))


def step(h, x):
    h = torch.tanh(weight * h + x)
    return h, h


def problem():
    return step, torch.zeros(4, 8), torch.ones(100, 4, 8), [weight]


def undeclared():
    return step, torch.zeros(4, 8), torch.ones(100, 4, 8)


def wrong():
    return step


def counting():
    seen = []
    return lambda h, x: (seen.append(x), (h + len(seen), h))[1], torch.zeros(4, 8), torch.ones(100, 4, 8)


constant = 3
"""


def prepare(line):
    """Write what an example reads: a table, or a model."""
    build("msm", 20, 6, internal=3).save("msm.npz")
    if "measure" in line:
        pytest.importorskip("torch")
        Path("model.py").write_text(MODEL)


@pytest.fixture
def _model(tmp_path, monkeypatch):
    """A folder with a module that holds a step of the user's."""
    monkeypatch.chdir(tmp_path)
    prepare("measure")
    yield
    sys.modules.pop("model", None)


def skip_where_not_installed(line):
    """A drawing in a file needs matplotlib."""
    if "--out" in line and "schedule" in line:
        pytest.importorskip("matplotlib")


def subparsers(whole):
    """Return a parser and all parsers below it."""
    parsers = [whole]
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                parsers += subparsers(below)
    return parsers


COMMANDS = [below for below in subparsers(parser()) if below.get_default("run") is not None]
PRINTED = re.findall(
    r"^    (membptt .*?)(?:  #.*)?$",
    (ROOT / "README.md").read_text().split("## Command line")[1].split("\n## ")[0],
    flags=re.MULTILINE,
)
EXAMPLES = sorted(
    {line.strip() for below in subparsers(parser()) for line in (below.epilog or "").splitlines() if "membptt " in line}
)


def answer(capsys, line, expected=0):
    """Run one line; return what it prints on standard output, or the refusal."""
    assert main(shlex.split(line.removeprefix("membptt "))) == expected, capsys.readouterr().err
    printed = capsys.readouterr()
    return printed.out if expected != 2 else printed.err


def test_every_command_has_help_with_examples(capsys):
    assert {below.prog for below in COMMANDS} == {
        "membptt plan",
        "membptt schedule",
        "membptt table export",
        "membptt table check",
        "membptt prove",
        "membptt measure",
    }
    for below in COMMANDS:
        assert below.prog in (below.epilog or "")
        with pytest.raises(SystemExit, match="0"):
            main([*below.prog.split()[1:], "--help"])
        assert "examples:" in capsys.readouterr().out


def test_sizes_are_bytes_or_text_with_a_unit(capsys):
    line = "plan --steps 100 --hidden-bytes {} --internal-bytes {} --budget {} --policy hsm --json"
    plans = [answer(capsys, line.format(*sizes)) for sizes in ((8192, 40960, 2**20), ("8K", "40KiB", "1M"))]
    assert plans[0] == plans[1]


def test_the_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"membptt {version('membptt')}\n"


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_of_the_help_runs(line, capsys, tmp_path, monkeypatch):
    skip_where_not_installed(line)
    monkeypatch.chdir(tmp_path)
    prepare(line)
    output = answer(capsys, line)
    assert output
    if "--json" in line:
        assert json.loads(output)
    for name in re.findall(r"--out (\S+)", line):
        assert Path(name).stat().st_size


def test_the_examples_of_the_readme_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {line.split()[1] for line in PRINTED} == {"plan", "measure", "schedule", "table", "prove"}
    for line in PRINTED:
        prepare(line)
        assert answer(capsys, line)


@pytest.mark.parametrize(
    "line", [line for line in (*PRINTED, *EXAMPLES) if re.match("membptt (plan|schedule.*draw|table e)", line)]
)
def test_what_the_readme_and_the_help_print_runs_where_torch_is_not_installed(line, tmp_path):
    code = (
        "import sys\nfor name in ('torch', 'optree', 'membptt', 'matplotlib'):\n    sys.modules[name] = None\n"
        f"from membptt_cli.__main__ import main\nsys.exit(main({shlex.split(line)[1:]}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_console_script_is_the_module_s_main():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["membptt"].split(":")
    assert getattr(importlib.import_module(module), name) is main
    line = [sys.executable, "-m", "membptt_cli", "schedule", "--policy", "hsm", "--steps", "1000", "--slots", "50"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert f"{optimal_cost('hsm', 1000, 50)} forwards, 2.948 a step; 50 slots at most" in done.stdout


def test_schedule_prints_the_stream_and_its_counts(capsys):
    table = build("msm_plus", 10, 7, internal=3)
    report = json.loads(answer(capsys, "schedule --policy msm_plus --steps 10 --slots 7 --internal 3 --actions --json"))
    assert (report["forwards"], report["digest"]) == (table.cost(10, 7), table.digest)
    named = [[type(action).__name__, *map(int, re.findall(r"\d+", str(action)))] for action in table.schedule(10, 7)]
    assert report["stream"] == named
    assert report["actions"] == len(named)
    listed = answer(capsys, "schedule --policy msm_plus --steps 10 --slots 7 --internal 3 --actions")
    assert listed.split("\n\n")[1].splitlines() == [" ".join(map(str, action)) for action in named]


def test_plan_prints_what_the_planner_finds(capsys):
    line = "plan --steps 1000 --hidden-bytes 4096 --internal-bytes 20480 --budget 1MB --chunk 1 --json"
    report = json.loads(answer(capsys, line))
    core = Measured(1, 4096, 4096, 12288, 12288, 0, 1.0, 3.0)
    expected = options([core], 1000, 10**6)
    assert [row["forwards"] for row in report["options"]] == [option.forwards for option in expected]
    assert report["digest"] == expected[0].schedule().digest
    assert all(row["peak_bytes"] <= 10**6 for row in report["options"])
    (hsm,) = (row for row in report["options"] if row["policy"] == "hsm")
    assert hsm["forwards"] == optimal_cost("hsm", 1000, hsm["slots"])
    assert hsm["time_in_forwards"] == hsm["forwards"] - 1000 + 3 * 1000


@pytest.mark.usefixtures("_model")
def test_measure_prints_what_the_planner_measures_and_a_line_that_plans(capsys):
    report = json.loads(answer(capsys, "measure model:problem --json"))
    assert (report["steps"], report["hidden_bytes"], report["shared_bytes"]) == (100, 4 * 8 * 4, 0)
    assert report["internal_bytes"] >= 2 * report["hidden_bytes"]
    assert (report["outputs_bytes"], report["gradients_bytes"]) == (100 * 4 * 8 * 4, 8 * 4)
    assert report["least_budget"] == report["internal_bytes"] + report["hidden_bytes"]
    assert "100 steps within" in answer(capsys, report["plan"])
    assert "go on" in answer(capsys, "measure model:problem")


@pytest.mark.usefixtures("_model")
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("undeclared", "requires grad"),
        ("wrong", "must return (step, init, xs) or (step, init, xs, params), got function"),
        ("constant", "model has no function constant"),
        ("counting", "keeps state outside the carry"),
    ],
)
def test_measure_refuses_what_it_cannot_measure(function, message, capsys):
    assert message in answer(capsys, f"measure model:{function}", expected=2)


@pytest.mark.usefixtures("_model")
def test_measure_without_the_runtime_says_what_to_install(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "membptt", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "needs torch: pip install 'membptt[runtime]'" in answer(capsys, "measure model:problem", expected=2)


def test_a_size_may_have_a_blank_and_a_small_letter(capsys):
    line = "plan --steps 100 --hidden-bytes 8192 --internal-bytes 40960 --budget {} --policy hsm --json"
    assert len({answer(capsys, line.format(f"'{size}'")) for size in ("3 m", "3m", "3M", "3 MiB", "3145728")}) == 1


@pytest.mark.parametrize("policy", ["hsm", "ism", "msm_plus"])
def test_a_schedule_too_long_for_a_table_is_made_by_the_formula(policy, capsys, monkeypatch):
    monkeypatch.setattr(schedules, "tqdm", lambda actions, **_: actions)
    line = f"schedule --policy {policy} --steps 300 --slots 9 --json"
    by_table = json.loads(answer(capsys, line))
    monkeypatch.setattr(parsing, "TABLED", Limit(1, 1, "here"))
    monkeypatch.setattr(parsing, "build", lambda *_, **__: pytest.fail("a table was built"))
    by_formula = json.loads(answer(capsys, line))
    assert by_formula.pop("digest") != by_table.pop("digest")
    assert by_formula == by_table
    assert "\nformula " in answer(capsys, line.removesuffix(" --json"))


def test_plan_prints_the_best_option_of_each_policy_and_every_option_on_request(capsys):
    line = "plan --steps 200 --hidden-bytes 4096 --internal-bytes 20480 --budget 1MB"
    policies = [row["policy"] for row in json.loads(answer(capsys, f"{line} --json"))["options"]]

    def rows(printed):
        return [row.split()[0] for row in printed.splitlines() if row.split()[:1] and row.split()[0] in policies]

    assert rows(answer(capsys, line)) == list(dict.fromkeys(policies))
    assert rows(answer(capsys, f"{line} --all")) == policies


def test_a_plan_is_printed_in_full_whatever_it_costs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    line = "plan --steps {} --hidden-bytes 8192 --internal-bytes 40960 --budget 64MiB"
    for steps in (10, 10**5, 10**9):
        assert "…" not in answer(capsys, line.format(steps))


def test_a_core_of_several_steps_weighs_their_graphs_and_the_states_between(capsys):
    line = "plan --steps 4 --hidden-bytes 10 --internal-bytes 50 --budget {} --chunk 4 --json"
    least = 2 * 10 + 4 * 30 + 3 * 10 + 10  # both ends, four graphs, three states between, the start
    assert json.loads(answer(capsys, line.format(least)))["options"][0]["peak_bytes"] <= least
    assert f"take {least} bytes" in answer(capsys, line.format(least - 1), expected=2)


@pytest.mark.parametrize(
    ("out", "message"), [("x.gif", "is written as"), ("x", "is written as"), ("no/x.{}", "no folder")]
)
@pytest.mark.parametrize(("module", "verb", "kind"), [(schedules, "schedule", "svg"), (tables, "table export", "npz")])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_built(
    out, message, module, verb, kind, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parsing, "build", lambda *_, **__: pytest.fail("a table was built"))
    line = f"{verb} --policy msm --steps 1000 --slots 100 --out {out.format(kind)}"
    assert message in answer(capsys, line, expected=2)
    assert message in answer(capsys, f"{line} --json", expected=2)


def test_an_exported_table_is_the_table(capsys, tmp_path):
    table = build("msm", 30, 9, internal=3, internal_known=2)
    asked = "table export --policy msm --steps 30 --slots 9 --internal 3 --internal-known 2"
    for kind in ("npz", "csv", "json"):
        assert table.digest in answer(capsys, f"{asked} --out {tmp_path / f'x.{kind}'}")
    assert PolicyTable.load(tmp_path / "x.npz").digest == table.digest
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert len(rows) == 30 * 9
    for row in rows:
        steps, slots = int(row["steps"]), int(row["slots"])
        decision, split = table.decision(steps, slots)
        assert (int(row["cost"]), int(row["split"])) == (table.cost(steps, slots), split)
        assert row["decision"] == decision.name.lower()
    whole = json.loads((tmp_path / "x.json").read_text())
    assert whole["costs"] == table.costs[:, 1:].tolist()
    assert json.loads(answer(capsys, f"{asked} --json")) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.json", "x.npz"]


def test_a_damaged_table_is_found_out(capsys, tmp_path):
    path = tmp_path / "x.npz"
    build("hsm", 30, 9).save(path)
    assert answer(capsys, f"table check {path}").startswith("OK")
    assert json.loads(answer(capsys, f"table check {path} --json"))["holds"] is True
    path.write_bytes(path.read_bytes()[:-40])
    assert answer(capsys, f"table check {path}", expected=1).startswith("FAILED")
    assert json.loads(answer(capsys, f"table check {path} --json", expected=1))["holds"] is False


def test_prove_gives_one_verdict_per_claim(capsys, monkeypatch):
    verdicts = json.loads(answer(capsys, "prove --quick --json hsm-splits"))
    assert [(row["id"], row["holds"]) for row in verdicts] == [("hsm-splits", True)]
    from membptt_proofs.checks import CHECKS

    monkeypatch.setitem(CHECKS, "hsm-splits", lambda _: 1 / 0)
    assert "FAILED" in answer(capsys, "prove --quick hsm-splits", expected=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("schedule --policy hsm --steps 0 --slots 3", "steps must be at least 1, got 0"),
        ("schedule --policy hsm --steps -50000 --slots -70000", "steps must be at least 1, got -50000"),
        ("table export --policy hsm --steps 50000 --slots -7 --json", "slots must be at least 1, got -7"),
        ("schedule --policy msm --steps 9 --slots 3 --internal 1", "needs internal >= 2"),
        ("schedule --policy hsm --steps 9 --slots 3 --internal 4", "has one kind of slot"),
        (
            "table export --policy hsm --steps 10000000 --slots 99 --json",
            "allowed are 26 slots, or 2711468 steps with as many slots; `membptt schedule` needs no table for hsm",
        ),
        (
            "schedule --policy msm --steps 100000 --slots 99",
            "are 10 slots, or 31782 steps with as many slots; hsm and ism and msm_plus have a formula",
        ),
        ("schedule --policy hsm --steps 99 --slots 3 --draw", "draw it to a file, with --out FILE.svg"),
        ("schedule --policy hsm --steps 9 --slots 3 --out x.gif", "a drawing is written as svg, pdf, png"),
        ("schedule --policy hsm --steps 9 --slots 3 --out nowhere/x.svg", "there is no folder nowhere"),
        ("table export --policy hsm --steps 9 --slots 3", "say where to: --out FILE with the ending npz, csv, json"),
        ("table export --policy hsm --steps 9 --slots 3 --out x.pkl", "a table is written as npz, csv, json"),
        ("measure model", "write MODULE:FUNCTION"),
        ("measure nowhere_at_all:problem", "looked for in this folder"),
        ("measure json:problem", "json has no function problem"),
        ("plan --steps 9 --hidden-bytes 8 --internal-bytes 9 --budget 99", "less than two hidden states of 8 bytes"),
        ("plan --steps 9 --hidden-bytes 8 --internal-bytes 40 --budget many", "--budget 'many' names no size"),
        ("plan --steps 9 --hidden-bytes few --internal-bytes 40 --budget 99", "--hidden-bytes 'few' names no size"),
        ("plan --steps 9 --hidden-bytes 8 --internal-bytes 40 --budget 47", "take 48 bytes, the smallest feasible"),
        ("plan --steps 9 --hidden-bytes 8 --internal-bytes 40 --budget 99 --chunk 10", "more than the 9 steps"),
        ("plan --steps 9 --hidden-bytes 8 --internal-bytes 40 --budget 99 --backward -1", "0 or more, got -1.0"),
    ],
)
def test_a_refusal_says_what_was_wrong(line, message, capsys, tmp_path, monkeypatch):
    skip_where_not_installed(line)
    monkeypatch.chdir(tmp_path)
    output = answer(capsys, line, expected=2)
    assert message in output
    assert output.startswith(f"membptt {' '.join(line.split()[: 2 if line.startswith('table') else 1])}: error: ")
    assert len(output.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["", "plan", "schedule --policy best", "table", "prove no-such-claim"])
def test_a_line_that_is_not_a_command_ends_with_status_two(line):
    with pytest.raises(SystemExit, match="2"):
        main(shlex.split(line))


def bars(source):
    """The calls of tqdm in a text, each with whether it is silent where there is no terminal."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    named = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "tqdm")
    return ["disable" in {keyword.arg for keyword in call.keywords} for call in named]


def test_no_bar_is_drawn_in_a_log():
    folders = ("theory", "proofs_check", "impl/membptt_cli", "paper_figs", "notebooks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    spoiling = [path.name for path in files if not all(bars(path.read_text()))]
    assert spoiling == []
    assert sum(len(bars(path.read_text())) for path in files) > 5
    assert bars("tqdm(x); tqdm(x, disable=None)") == [False, True]

"""CONTRIBUTING adds a policy from end to end: its listings, and its part of the suite, run in a copy of the tree."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from membptt_theory.claims import CLAIMS, parse

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EQUATION, RECORD, REFEREE, CHECK = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
(CLAIM,) = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
FOLDERS = ("theory/membptt_theory", "impl/membptt", "impl/membptt_cli", "proofs_check", "tests")
FILES = ("theory/tables.lock", "pyproject.toml")
# The modules whose tests name the policy they are about.
MODULES = ["policy", "schedule", "tables", "machine"]
WITH_TORCH = ["scan", "scan_features", "scan_beside", "scan_truncated", "nn"]


class Tree:
    """A copy of the tree in which commands are run: of it, they import everything."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "out"))
        for name in FILES:
            shutil.copy(ROOT / name, root / name)

    def insert(self, name: str, after: str, text: str) -> None:
        """Put `text` into a file behind `after`; at its end if that is empty."""
        path = self.root / name
        before, mark, behind = path.read_text().rpartition(after) if after else (path.read_text(), "", "")
        path.write_text(f"{before}{mark}{text}{behind}")

    def add_example(self, equation: str) -> None:
        """Put the listings where the page says."""
        self.insert("theory/membptt_theory/recurrences.py", "", f"\n\n{equation}")
        self.insert("theory/membptt_theory/policies.py", "import Recurrence, ", "hsm_apart, ")
        self.insert("theory/membptt_theory/policies.py", "", f"\n\n{RECORD}")
        self.insert("proofs_check/membptt_proofs/dp.py", "", f"\n\n{REFEREE}")
        self.insert("proofs_check/membptt_proofs/checks/tables.py", "", f"\n\n{CHECK}")
        self.insert("theory/membptt_theory/claims.toml", "", f"\n{CLAIM}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python here."""
        paths = os.pathsep.join(str(self.root / part) for part in (".", "theory", "impl", "proofs_check"))
        environment = {**os.environ, "PYTHONPATH": paths, "HYPOTHESIS_PROFILE": "default"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The tree with the example added as the page says."""
    tree = Tree(tmp_path_factory.mktemp("tree"))
    tree.add_example(EQUATION)
    regen = tree.run("-m", "membptt_theory.lock")
    assert regen.returncode == 0, regen.stderr
    return tree


def test_the_four_places_are_four() -> None:
    assert re.findall(r"^\*\*(\d)\. ", TEXT, flags=re.MULTILINE) == list("1234")


def test_the_claim_of_the_example_is_well_formed_and_new() -> None:
    (claim,) = parse(CLAIM)
    assert claim.id not in {each.id for each in CLAIMS}
    assert claim.group in {each.group for each in CLAIMS}


def test_the_checks_of_the_example_hold(tree: Tree) -> None:
    done = tree.run("-m", "membptt_proofs", "--quick", "hsm-apart", "tables-lock", "metered-cost-equals-table")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hsm_apart 1 - 30 8 " in (tree.root / "theory/tables.lock").read_text()


def test_the_check_of_the_example_has_been_seen_to_fail(tmp_path: Path) -> None:
    """Three steps to the right of every state, where two are meant."""
    tree = Tree(tmp_path)
    tree.add_example(EQUATION.replace("last=2", "last=3"))
    done = tree.run("-m", "membptt_proofs", "--quick", "hsm-apart")
    assert done.returncode == 1, done.stdout + done.stderr


def test_the_examples_part_of_the_suite_passes(tree: Tree) -> None:
    with_torch = WITH_TORCH if importlib.util.find_spec("torch") else []
    modules = [f"tests/test_{name}.py" for name in MODULES + with_torch]
    done = tree.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "hsm_apart", *modules)
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"(\d+) passed", done.stdout)[1] != "0"


def test_the_random_half_of_the_suite_draws_the_example(tree: Tree) -> None:
    code = (
        "import tests.strategies as s; from hypothesis import find; find(s.policies(), lambda p: p[0] == 'hsm_apart')"
    )
    done = tree.run("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_command_line_knows_the_example_and_the_planner_leaves_it_to_those_who_ask(tree: Tree) -> None:
    done = tree.run("-m", "membptt_cli", "schedule", "--policy", "hsm_apart", "--steps", "20", "--slots", "4")
    assert done.returncode == 0, done.stderr
    sizes = ["--steps", "200", "--hidden-bytes", "8", "--internal-bytes", "40", "--budget", "400"]
    assert "hsm_apart" not in tree.run("-m", "membptt_cli", "plan", *sizes).stdout
    assert "hsm_apart" in tree.run("-m", "membptt_cli", "plan", *sizes, "--policy", "hsm_apart").stdout

"""Who may import whom, seen from a fresh interpreter: a package's __init__ can leak past a linter."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

THEORY = [
    "actions",
    "archive",
    "bellman",
    "chain",
    "chen",
    "claims",
    "equal_blocks",
    "files",
    "footprint",
    "front",
    "front_parts",
    "limits",
    "lock",
    "machine",
    "options",
    "palette",
    "picture",
    "policy",
    "recurrences",
    "schedule",
    "tables",
    "terminal",
    "tiers",
    "timeline",
]


def loaded_after(statement):
    code = f"{statement}\nimport sys\nprint(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", THEORY)
def test_theory_imports_neither_torch_nor_sympy(module):
    loaded = loaded_after(f"import membptt_theory.{module}")
    assert not loaded & {"torch", "sympy", "scipy", "membptt", "membptt_proofs"}


def test_nothing_in_the_folder_of_the_theory_imports_what_stands_on_it():
    """Neither the package nor the explorer's page: seen in the text, so that a local import counts too."""
    sources = sorted((ROOT / "theory").rglob("*.py"))
    assert len(sources) > 30
    asked = [(path.name, node) for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    names = {(file, name) for file, node in asked for name in imported(node)}
    assert ("picture.py", "matplotlib") in names
    upper = {"membptt", "membptt_cli", "membptt_proofs", "paper_figs", "bench", "torch"}
    assert not [(file, name) for file, name in names if name in upper]


def imported(node):
    """The packages that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [node.module.partition(".")[0]] if isinstance(node, ast.ImportFrom) and node.module else []


def test_the_command_line_starts_without_torch_sympy_or_matplotlib():
    loaded = loaded_after("import membptt_cli.__main__")
    assert not loaded & {"torch", "sympy", "scipy", "matplotlib", "membptt", "membptt_proofs"}


def test_the_naive_referees_import_nothing_of_ours():
    for module in ("dp", "oracle_shared"):
        loaded = loaded_after(f"import membptt_proofs.{module}")
        assert not loaded & {"torch", "sympy", "numpy", "membptt", "membptt_theory"}


def test_the_oracles_import_the_vocabulary_and_no_table():
    """Nothing of what they judge: no recurrence, no table, no schedule."""
    judged = (
        "recurrences",
        "tables",
        "policy",
        "schedule",
        "bellman",
        "chen",
        "chain",
        "front",
        "front_parts",
        "machine",
    )
    for module in ("oracle", "chain_oracle", "front_oracle"):
        code = f"import sys, membptt_proofs.{module}\nprint(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert not {f"membptt_theory.{name}" for name in judged} & set(done.stdout.split())


TORCH_FREE = [
    "chain",
    "chen",
    "claims",
    "cli",
    "contributing",
    "derive",
    "derive_chen",
    "explorer",
    "files",
    "front",
    "imports",
    "limits",
    "machine",
    "options",
    "oracle",
    "policy",
    "schedule",
    "tables",
    "terminal",
    "tiers",
    "timeline",
]


def test_the_tests_of_theory_and_proofs_run_without_torch():
    """`conftest.py` leaves out a module that asks for torch where there is none: none of these does."""
    modules = "\n".join(f"import tests.test_{name}" for name in TORCH_FREE)
    subprocess.run([sys.executable, "-c", f"import sys\nsys.modules['torch'] = None\n{modules}"], check=True)


def test_the_runtime_does_not_ask_for_sympy():
    """Torch may import sympy by itself; our modules never name it."""
    pytest.importorskip("torch")
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def watched(name, globals=None, *rest, **more):\n"
        "    asker = (globals or {}).get('__name__', '')\n"
        "    assert not (name.split('.')[0] in ('sympy', 'scipy') and asker.startswith('membptt')), asker\n"
        "    return real(name, globals, *rest, **more)\n"
        "builtins.__import__ = watched\n"
        "import torch, membptt\n"
        "membptt.scan(lambda c, x: (c * x, c), torch.ones(3, requires_grad=True), torch.ones(9, 3), slots=2)\n"
        "assert 'membptt_theory.derive' not in sys.modules and 'membptt_proofs' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "call",
    [
        "membptt.scan(lambda c, x: (c * x, c), start, torch.ones(9, 3), slots=2)[0]",
        "membptt.scan(lambda c, x: (c * x, c), start, torch.ones(9, 3), budget=200)[0]",
        "membptt.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, start, slots=2)[0]",
    ],
)
def test_a_gradient_does_not_wait_for_the_compiler_to_be_imported(call):
    """Which takes a second, and nobody asked for it."""
    pytest.importorskip("torch")
    loaded = loaded_after(f"import torch, membptt\nstart = torch.ones(3, requires_grad=True)\n{call}.sum().backward()")
    assert not loaded & {"sympy", "mpmath"}, "torch._dynamo imports both"


@pytest.mark.parametrize(
    ("absent", "code", "advice"),
    [
        ("torch", "import membptt", "the runtime needs torch: pip install 'membptt[runtime]'"),
        ("optree", "import membptt", "the runtime needs optree: pip install 'membptt[runtime]'"),
        ("sympy", "from membptt_cli.__main__ import main; main(['prove', 'B1'])", "pip install 'membptt[proofs]'"),
    ],
)
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(absent, code, advice):
    line = f"import sys; sys.modules[{absent!r}] = None; {code}"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert advice in done.stderr
    extra = re.search(r"membptt\[(\w+)\]", advice)[1]
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    assert absent in {Requirement(each).name for each in needs}


def test_the_version_is_that_of_the_distribution():
    membptt = pytest.importorskip("membptt")
    assert membptt.__version__ == version("membptt")


def test_the_runtime_imports_the_compiler_only_when_something_is_compiled():
    code = "import membptt, sys; print('torch._inductor' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_no_module_of_the_runtime_is_hidden_behind_a_name_of_another_thing():
    """`import package.name` gives what `package.name` is: a module is never hidden by a function of the same name."""
    membptt = pytest.importorskip("membptt")
    for info in pkgutil.walk_packages(membptt.__path__, "membptt."):
        package, _, name = info.name.rpartition(".")
        module = importlib.import_module(info.name)
        assert getattr(importlib.import_module(package), name) is module, info.name

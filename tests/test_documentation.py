"""Links are alive, examples are true, and every public name is documented and reachable from a README."""

import ast
import doctest
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") or part in ("out", "data") for part in page.relative_to(ROOT).parts)
]
PACKAGES = {
    "theory/membptt_theory": "theory/README.md",
    "impl/membptt": "impl/README.md",
    "impl/membptt_cli": "impl/README.md",
    "proofs_check/membptt_proofs": "proofs_check/README.md",
}
MODULES = [(ROOT / package / path, ROOT / page) for package, page in PACKAGES.items()
           for path in sorted(path.relative_to(ROOT / package) for path in (ROOT / package).rglob("*.py"))]  # fmt: skip


def name_of(value):
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def anchors(page):
    """The anchors of a page's headings, as they are made from their words."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page):
    """The relative links of a page that lead nowhere."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            dead.append(target)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_is_alive(page):
    assert not dead_links(page)


def test_a_dead_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One, `two`\n[a](page.md#one-two) [b](gone.md) [c](#gone) [d](https://example.org) `[e](no)`\n")
    assert dead_links(page) == ["gone.md", "#gone"]


def test_every_page_is_reached_from_the_readme():
    reached, pending = set(), [ROOT / "README.md"]
    while pending:
        page = pending.pop().resolve()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+)", page.read_text())
        pending += [page.parent / link for link in links if "://" not in link]
    assert not [name_of(page) for page in PAGES if page.resolve() not in reached]


@pytest.mark.parametrize(("module", "page"), MODULES, ids=name_of)
def test_every_module_is_named_in_its_readme(module, page):
    """By its file, or by its folder where that is described as one thing."""
    if module.name in ("__init__.py", "__main__.py"):
        return
    text = page.read_text()
    (package,) = (package for package in PACKAGES if module.is_relative_to(ROOT / package))
    folders = [f"`{folder.name}/`" for folder in module.relative_to(ROOT / package).parents if folder.name]
    assert any(name in text for name in (f"`{module.name}`", *folders))


def public(body, prefix=""):
    """Every public definition below `body`."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


@pytest.mark.parametrize("module", [module for module, _ in MODULES], ids=name_of)
def test_every_public_name_is_documented(module):
    tree = ast.parse(module.read_text())
    assert ast.get_docstring(tree)
    inherited = {"forward", "backward", "setup_context", "extra_repr"}
    assert not [
        name
        for name, node in public(tree.body)
        if not ast.get_docstring(node) and name.rpartition(".")[2] not in inherited
    ]


def test_every_name_that_the_runtime_exports_is_in_its_readme_and_in_the_reference():
    text = (ROOT / "impl/README.md").read_text() + (ROOT / "README.md").read_text()
    (exported,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "impl/membptt/__init__.py").read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert exported
    assert not [name for name in exported if not re.search(rf"\b{name}\b", text)]
    reference = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    assert not [name for name in exported if f"::: membptt.{name}\n" not in reference]


EXAMPLES = [module for module, _ in MODULES if ">>>" in module.read_text()]


@pytest.mark.parametrize("module", EXAMPLES, ids=name_of)
def test_the_examples_of_the_docstrings_are_true(module):
    (package,) = (package for package in PACKAGES if module.is_relative_to(ROOT / package))
    if package == "impl/membptt":
        pytest.importorskip("torch")
    parts = module.relative_to((ROOT / package).parent).with_suffix("").parts
    results = doctest.testmod(importlib.import_module(".".join(parts)))
    assert results.attempted
    assert not results.failed


def test_the_changelog_is_in_its_form_and_names_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    releases = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d|unreleased)", release) for release in releases[1:])
    assert releases[1].startswith(f"[{version}]")
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    kinds = set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


VAGUE = {"found", "made", "one"}


def vague_names(source):
    """Variables, arguments and functions whose name says nothing of what they hold."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names & VAGUE


def test_no_name_is_found_made_or_one():
    sources = [
        path for path in ROOT.rglob("*.py") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    assert {str(path): vague for path in sources if (vague := vague_names(path.read_text()))} == {}


@pytest.mark.parametrize("source", ["found = 1", "def f(made): pass", "[one for one in x]", "def one(): pass"])
def test_a_vague_name_is_seen(source):
    assert vague_names(source)

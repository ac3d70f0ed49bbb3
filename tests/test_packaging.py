"""What a stranger installs: one set of pins, and a wheel that another project can use."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
ENVIRONMENT = (ROOT / "environment.yml").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
# The libraries whose layers are tested, and what they need to be imported: installed without dependencies.
ALONE = [Requirement(line).name for line in EXTRAS["real"]]
# Measured in an environment of their own, all that they need included: no verb installs them.
ELSEWHERE = {canonicalize_name(Requirement(line).name) for line in EXTRAS["peers"]}
INSTALLED = ",".join(extra for extra in EXTRAS if extra not in {"real", "peers"})
PACKAGES = {"membptt", "membptt_cli", "membptt_proofs", "membptt_theory"}
PINS = {
    canonicalize_name(name): pin
    for name, pin in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
}
DECLARED = [
    Requirement(line)
    for line in [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(line for extra in EXTRAS.values() for line in extra),
        "editables",  # what hatchling requires to build an editable wheel
    ]
]

SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from Python 3.11.4 on


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_every_requirement_has_a_pin_that_it_allows(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_every_requirement_is_installed_at_its_pin(requirement):
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        pytest.skip(f"{requirement.name} is not installed here")
    assert installed.partition("+")[0] == PINS[canonicalize_name(requirement.name)]


def test_the_readme_gives_a_reason_for_every_requirement_and_for_nothing_else():
    table = (ROOT / "README.md").read_text().split("## Dependencies, and why")[1].split("\n## ")[0]
    listed = {name for row in re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE)[1:]
              for name in re.sub(r"\(.*?\)", "", row).replace(" ", "").split(",") if name.strip("-")}  # fmt: skip
    assert listed == {requirement.name for requirement in DECLARED} - {"editables"}


def needed():
    """Names of all packages that the requirements reach, and of those whose own requirements are not known here."""
    reached, unknown = set(), set()
    pending = [(canonicalize_name(each.name), frozenset(each.extras)) for each in DECLARED]
    while pending:
        name, extras = pending.pop()
        if (name, extras) in reached:
            continue
        reached.add((name, extras))
        if name in ALONE or name in ELSEWHERE:
            continue
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            unknown.add(name)
            continue
        for each in map(Requirement, lines):
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                pending.append((canonicalize_name(each.name), frozenset(each.extras)))
    return {name for name, _ in reached}, unknown


def test_every_pin_is_required_and_every_requirement_is_pinned():
    reached, unknown = needed()
    if unknown:
        pytest.skip(f"not installed here, so their needs are unknown: {sorted(unknown)}")
    # What torch's builds for a GPU install with them differs from machine to machine.
    on_a_gpu = {name for name in reached if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert reached - on_a_gpu == PINS.keys() - on_a_gpu


def test_the_three_ways_to_install_agree():
    torch = PINS["torch"]
    (bound,) = (each.specifier for each in DECLARED if each.name == "torch")
    assert bound.contains(torch)
    assert torch.startswith(str(bound).removeprefix(">="))  # the lower bound is what the suite runs on
    for text, extras in ((MAKEFILE, [INSTALLED, "proofs,dev"]), (ENVIRONMENT, [INSTALLED])):
        assert re.findall(r"torch==(\S+)", text) == [torch]
        assert re.findall(r"-e '?\.\[([a-z,]+)\]", text) == extras
        assert re.findall(r"-c ([^\s']+)", text)
        assert {each.removeprefix("$(@D)/") for each in re.findall(r"-c ([^\s']+)", text)} == {"constraints.txt"}
    assert re.findall(r"^REAL := (.*)$", MAKEFILE, flags=re.MULTILINE) == [" ".join(ALONE)]
    assert re.findall(r"pip install (.*) \$\(REAL\)$", MAKEFILE, flags=re.MULTILINE)[0].endswith("--no-deps")
    (python,) = re.findall(r"python=([\d.]+)", ENVIRONMENT)
    assert re.findall(r"for python in python(\S+)", MAKEFILE) == [python]
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(python)
    assert set(re.findall(r"^  - ([a-z-]+)$", ENVIRONMENT, flags=re.MULTILINE)) == {"conda-forge", "pip", "make"}


def test_help_lists_every_verb():
    if shutil.which("make") is None:
        pytest.skip("make is not installed here")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=2) for line in printed.splitlines() if line.startswith("  make ")]
    assert [verb for _, verb, _ in lines] == phony.split()
    assert all(about for *_, about in lines)


def test_every_job_of_the_workflow_runs_verbs_that_exist():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert set(jobs) == {
        "theory-without-torch",
        "full-cpu",
        "newer-python",
        "newest-torch",
        "notebooks-and-figures",
        "docs",
        "dist",
        "regen-diff",
    }
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)
    for name, job in jobs.items():
        lines = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
        verbs = [verb for line in lines for verb in re.findall(r"^make ([a-z]+)$", line)]
        assert verbs, name
        assert set(verbs) <= set(phony.split())
        assert all(re.match(r"make [a-z]+$|git diff --exit-code$", line) for line in lines)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that ``pip install .`` makes, built without a network; or that ``make dist`` made."""
    if "MEMBPTT_DIST" in os.environ:
        (path,) = (ROOT / os.environ["MEMBPTT_DIST"]).glob("*.whl")
        return path
    return built(ROOT, tmp_path_factory.mktemp("wheel"))


def built(folder, out):
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, folder)
    (path,) = out.glob("*.whl")
    return path


def test_the_source_distribution_makes_the_same_wheel(wheel, tmp_path):
    if "MEMBPTT_DIST" in os.environ:
        (source,) = (ROOT / os.environ["MEMBPTT_DIST"]).glob("*.tar.gz")
    else:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path], cwd=ROOT, check=True
        )
        (source,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "unpacked", **SAFELY)
    (folder,) = (tmp_path / "unpacked").iterdir()
    assert {"LICENSE", "README.md", "CITATION.cff", "tests"} <= {path.name for path in folder.iterdir()}
    assert checksums(built(folder, tmp_path / "again")) == checksums(wheel)


def checksums(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


def test_the_package_s_page_is_the_readme_and_none_of_its_links_needs_the_repository(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        headers, page = archive.read(name).decode().split("\n\n", 1)
    assert "Description-Content-Type: text/markdown" in headers
    assert "Project-URL: Paper, https://arxiv.org/" in headers
    assert page.startswith("# membptt")
    assert [target for target in re.findall(r"\]\(([^)\s]+)", page) if not target.startswith("https://")] == []


def test_links_of_the_package_s_page_lead_into_the_repository_once_it_has_an_address():
    spec = importlib.util.spec_from_file_location("package_page", ROOT / "docs" / "package_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "[a](docs/b.md#c) ![p](d.svg) [e](https://example.org) `x[0](y)`"
    assert module.absolute(text, "https://example.org/r/") == (
        "[a](https://example.org/r/blob/main/docs/b.md#c) ![p](https://example.org/r/raw/main/d.svg) "
        "[e](https://example.org) `x[0](y)`"
    )
    assert module.absolute("[a](docs/b.md) ![p](d.svg)", None) == "a *p*"


@pytest.mark.parametrize("gpu", [False, True])
def test_make_takes_the_build_of_torch_that_suits_the_machine(gpu, tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed here")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: some'\n" if gpu else "#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    line = ["make", "-n", "-B", ".venv/.ready", f"PYTHON={sys.executable}"]
    printed = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    first, otherwise = re.findall(r" '?(torch==\S+?)'? 2>/dev/null \|\| .* (torch\S+)$", printed, flags=re.MULTILINE)[0]
    allowed, fallback = Requirement(first).specifier, Requirement(otherwise).specifier
    assert [allowed.contains(build) for build in ("2.13.0+cpu", "2.13.0", "2.13.0+cu130")] == (
        [False, True, True] if gpu else [True, False, False]
    )
    assert all(fallback.contains(build) for build in ("2.13.0+cpu", "2.13.0", "2.13.0+cu130"))
    assert PINS["torch"] == "2.13.0"


def pip(*arguments, python=sys.executable):
    command = [sys.executable, "-m", "pip", "--python", python, *arguments, "--disable-pip-version-check", "--no-index"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_four_typed_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    files = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in files} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= files
    assert {Path(name).suffix for name in files} == {".py", ".toml", ".typed", ".lock"}
    assert not [name for name in files if re.search(r"test|notebooks|bench|__pycache__", name)]
    sources = {
        str(path.relative_to(ROOT / folder))
        for folder in ("theory", "impl", "proofs_check")
        for package in PACKAGES
        for path in (ROOT / folder / package).rglob("*")
        if path.is_file() and path.suffix in (".py", ".toml", ".typed")
    }
    assert files == sources | {"membptt_theory/tables.lock", "membptt_proofs/theorems.toml"}


def test_another_project_can_use_the_wheel(wheel, tmp_path):
    """In a fresh environment, which borrows this one's dependencies but not this checkout."""
    pytest.importorskip("torch")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    (own,) = (tmp_path / "venv").rglob("site-packages")
    # A path file does not pass on the path files of the place that it names, so an editable install stays out.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip("install", "--no-deps", wheel, python=python)
    (tmp_path / "client.py").write_text(
        "import torch\n"
        "import membptt, membptt_cli, membptt_proofs, membptt_theory\n"
        f"for package in (membptt, membptt_cli, membptt_proofs, membptt_theory):\n"
        f"    assert package.__file__.startswith({str(own)!r}), package.__file__\n"
        "from membptt_theory.tables import optimal_cost\n"
        "w, calls = torch.full((3,), 0.9, requires_grad=True), []\n"
        "def step(h, x):\n"
        "    calls.append(1)\n"
        "    return torch.tanh(w * h + x), h\n"
        "h, _ = membptt.scan(step, torch.zeros(3), torch.ones(20, 3), slots=4, params=[w])\n"
        "h.sum().backward()\n"
        "assert len(calls) == optimal_cost('hsm', 20, 4) and w.grad.abs().sum() > 0\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([str(python), "-W", "error", "client.py"], check=False, **run)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([str(python.parent / "membptt"), "--help"], check=False, **run)
    assert done.returncode == 0, done.stderr
    assert "usage: membptt" in done.stdout
    done = subprocess.run([str(python.parent / "membptt"), "prove", "tables-lock"], check=False, **run)
    assert done.returncode == 0, done.stdout + done.stderr

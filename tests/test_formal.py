"""The theorems of proofs_check/formal as files: what may stand in them, and what the lists beside them promise.

What needs Coq is skipped where there is none; `make formal` is the full check.
"""

import re
import shutil
import subprocess
import sys

import pytest

from membptt_proofs import formal, formal_theorems
from membptt_proofs import formal_coq as coq
from membptt_theory.claims import CLAIMS

SOURCES = coq.sources()
needs_coq = pytest.mark.skipif(not coq.installed(), reason=coq.ABSENT)


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_assumes_anything(name):
    assert formal_theorems.gaps(SOURCES[name].read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("Lemma a : 0 = 1. Proof. Admitted.", "Admitted"),
        ("Lemma a : 0 = 1. Proof. admit. Defined.", "admit"),
        ("Axiom a : 0 = 1.", "Axiom"),
        ("Parameters a b : nat.", "Parameters"),
        ("Conjecture a : 0 = 1.", "Conjecture"),
        ("Hypothesis a : 0 = 1.", "Hypothesis outside of a section"),
        ("Section S. Hypothesis a : 0 = 0. End S. Variable b : 0 = 1.", "Variable outside of a section"),
        ("Module M. Hypothesis a : 0 = 1. End M.", "Hypothesis outside of a section"),
        ("Unset Guard Checking.", "Unset Guard Checking"),
        ("Require Import Classical_Prop.", "Require Import Classical_Prop"),
        ("(* (* *) *) Axiom a : 0 = 1.", "Axiom"),
    ],
)
def test_an_assumption_is_seen(text, gap):
    assert formal_theorems.gaps(text) == [gap]


@pytest.mark.parametrize(
    "text",
    [
        "(* an Axiom (* or an admit *) in a comment *) Lemma a : 0 = 0. Proof. auto. Qed.",
        "Section S. Variable a : nat. Hypothesis b : a = 0. End S.",
        "Section S. Section T. End T. Context {a : nat}. End S.",
        "Lemma parameter : 0 = 0. Proof. auto. Qed.",
    ],
)
def test_what_assumes_nothing_passes(text):
    assert formal_theorems.gaps(text) == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_definition_and_lemma_is_said_in_words(name):
    lines = SOURCES[name].read_text("utf-8").splitlines()
    kinds = r"\s*(Lemma|Theorem|Corollary|Definition|Fixpoint|Example|Inductive|Structure|Class)\b"
    places = [number for number, line in enumerate(lines) if re.match(kinds, line)]
    assert [lines[place] for place in places if not lines[place - 1].endswith("*)")] == []
    assert [line for line in lines if len(line) > 120] == []


def test_every_file_comes_after_those_that_it_requires():
    seen = set()
    for name, path in SOURCES.items():
        assert set(coq.required(path.read_text("utf-8"))) <= seen
        seen.add(name)


def test_the_statements_rest_on_no_slow_file():
    assert not coq.SLOW & coq.sources(slow=False).keys()
    assert SOURCES.keys() >= coq.SLOW


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/A.v": "", "b/A.v": ""}, "two files are named A.v"),
        ({"A.v": "From Membptt Require B."}, "A.v requires B, and there is no such file"),
        (
            {"A.v": "From Membptt Require Import B.", "B.v": "From Membptt Require Export A."},
            "require one another: A B A",
        ),
    ],
)
def test_a_tree_that_cannot_be_compiled_is_refused(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(coq.CoqError, match=message):
        coq.sources(tmp_path)


@pytest.mark.parametrize("theorem", formal_theorems.theorems(), ids=lambda theorem: theorem.name)
def test_a_headline_theorem_is_where_its_list_says(theorem):
    stated = (coq.ROOT / theorem.file).read_text("utf-8")
    assert re.search(rf"^Theorem {theorem.name} :", stated, flags=re.M)
    assert (coq.ROOT / theorem.proof).is_file()
    assert {*theorem.proves, *theorem.supports, *theorem.refutes} <= {claim.id for claim in CLAIMS}


def test_every_theorem_of_the_headline_files_is_listed():
    for file in ("Theorems.v", "Slow.v"):
        stated = re.findall(r"^Theorem (\w+) :", (coq.ROOT / file).read_text("utf-8"), flags=re.M)
        assert stated == [theorem.name for theorem in formal_theorems.theorems() if theorem.file == file]


def test_every_headline_theorem_has_a_committed_statement():
    assert {theorem.key for theorem in formal_theorems.theorems()} <= formal_theorems.committed().keys()


def test_the_committed_definitions_reach_the_machine_and_every_recurrence():
    held = formal_theorems.committed()
    for name in ("exec", "execute", "room", "init", "legal", "complete", "cost"):
        assert f"Machine.{name}" in held
    for name in ("HSM", "ISM", "SEPARATE", "SHARED", "CHARGED"):
        assert f"Policies.{name}" in held
    for name in ("hsm_", "ism_", "shared_", "separate_", "two_"):
        assert f"Recurrences.{name}" in held


def test_a_weakened_statement_is_noticed():
    held = formal_theorems.committed()
    weaker = {"Theorems.hsm_exact": held["Theorems.hsm_exact"].replace("1 <= m", "2 <= m")}
    [message] = formal_theorems.differences(weaker)
    assert message.startswith("Theorems.hsm_exact is not what is committed")
    assert "+" in message
    assert formal_theorems.differences(held) == []


def test_a_theorem_that_is_not_committed_is_noticed():
    assert formal_theorems.differences({"Theorems.new": "..."}) == ["Theorems.new is not in statements.txt"]


def test_an_unknown_theorem_is_refused():
    with pytest.raises(formal_theorems.StatementError, match=r"no headline theorem 'hsm_best'; theorems\.toml lists"):
        formal_theorems.check("hsm_best")


def test_the_claims_of_optimality_have_theorems():
    for claim in (
        "hsm-optimal",
        "ism-optimal",
        "msm-plus-optimal",
        "shared-optimal",
        "cost-ratio-invariance",
        "duality",
    ):
        assert formal_theorems.proves(claim)


def test_without_coq_a_theorem_is_said_not_to_be_checked(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert formal_theorems.check("hsm_exact") == (None, "not checked here: coq is not installed")


def test_without_coq_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert formal.main([]) == 1
    assert (
        capsys.readouterr().err == "Coq is not installed: no coqc on the path. Install it with: apt-get install coq\n"
    )


@needs_coq
def test_coq_compiles_what_changed_and_what_rests_on_it(tmp_path, monkeypatch):
    root, out = tmp_path / "formal", tmp_path / "out"
    root.mkdir()
    (root / "A.v").write_text("Definition a := 1.")
    (root / "B.v").write_text("From Membptt Require A. Theorem b : A.a = 1. Proof. reflexivity. Qed.")
    (root / "C.v").write_text("Definition c := 1.")
    monkeypatch.setattr(coq, "ROOT", root)
    monkeypatch.setattr(coq, "sources", lambda *, slow: {name: root / f"{name}.v" for name in "ABC"})
    assert coq.build(out=out) == ["A", "B", "C"]
    assert coq.build(out=out) == []
    (root / "A.v").write_text("(* one *) Definition a := 1.")
    assert coq.build(out=out) == []
    (root / "A.v").write_text("Definition a := 0 + 1.")
    assert coq.build(out=out) == ["A", "B"]
    (root / "A.v").write_text("Definition a := 2.")
    with pytest.raises(coq.CoqError, match=r"coqc refused B\.v"):
        coq.build(out=out)
    assert coq.ask([("a", "Print A.a.")], requires="A", out=out) == {"a": "A.a = 2\n     : nat"}


@needs_coq
def test_an_axiom_below_a_theorem_is_noticed(tmp_path):
    (tmp_path / "Headlines.v").write_text(
        "Axiom false : 0 = 1. Theorem bad : 0 = 1. Proof. exact false. Qed. Theorem good : 0 = 0. Proof. auto. Qed."
    )
    coq.coqc(tmp_path / "Headlines.v", tmp_path)
    theorems = {
        name: formal_theorems.Theorem(name=name, file="Headlines.v", proof="Headlines.v", statement=name)
        for name in ("bad", "good")
    }
    assert formal_theorems.assumptions([theorems["good"]], out=tmp_path) == []
    [message] = formal_theorems.assumptions(list(theorems.values()), out=tmp_path)
    assert message.startswith("Headlines.bad rests on what is not proved: Axioms:")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_makefile_runs_the_command():
    command = ["make", "-n", "formal", "-o", ".venv/.ready"]
    dry = subprocess.run(command, cwd=coq.ROOT.parents[1], capture_output=True, text=True, check=True)
    assert "-m membptt_proofs.formal" in dry.stdout


def test_the_module_says_what_it_does():
    helped = subprocess.run(
        [sys.executable, "-m", "membptt_proofs.formal", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--slow", "--coqchk", "--fresh", "--write"):
        assert option in helped.stdout

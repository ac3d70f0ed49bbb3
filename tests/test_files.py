"""A file may hold anything: whatever its bytes, its reader returns what was saved or raises its own error."""

import io
import json
import os
import struct
import tempfile
import tracemalloc
import zipfile
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from membptt_theory.archive import TableError, save_arrays
from membptt_theory.claims import ClaimError
from membptt_theory.claims import parse as parse_claims
from membptt_theory.files import UnreadableError, parse_json, read_json, read_text, write_whole
from membptt_theory.lock import PATH, LockError
from membptt_theory.lock import parse as parse_lock
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build
from membptt_theory.tiers import Prices, TierTable, build_tiers

from .strategies import JSON, outcome

TABLES = {
    "hsm": (PolicyTable, build("hsm", 4, 3)),
    "msm": (PolicyTable, build("msm", 4, 3, internal=2)),
    "tiers": (TierTable, build_tiers(3, 1, 1, Prices(2, 1, 1))),
}
LIMIT = 2**16


@pytest.fixture(params=TABLES)
def saved(request, tmp_path):
    """A table, the bytes of its file, and a function that loads other bytes."""
    kind, table = TABLES[request.param]
    path = tmp_path / "table.npz"
    table.save(path)

    def load(content):
        path.write_bytes(content)
        return kind.load(path, limit=LIMIT)

    return table, path.read_bytes(), load


def refused(load, content):
    """Whether the bytes are refused; anything but the table's own error is a failure of the test."""
    try:
        load(content)
    except TableError:
        return True
    return False


def peak_bytes(call):
    """The most bytes that Python and numpy held during a call that must be refused."""
    tracemalloc.start()
    try:
        with pytest.raises(TableError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def parts(table):
    """Header, digest and arrays, as they are saved."""
    header = table._header()
    return {"shape": list(table.costs.shape), **header}, table.digest, {
        name: getattr(table, name) for name in ("costs", "decisions", "splits")
    }  # fmt: skip


def members(content):
    """The members of an archive, decompressed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files, method=zipfile.ZIP_DEFLATED):
    """An archive of (name, bytes) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_every_truncation_is_refused_exhaustive(saved):
    _, whole, load = saved
    assert load(whole).digest
    assert all(refused(load, whole[:length]) for length in range(len(whole)))


def test_every_flipped_byte_is_refused_or_changes_nothing_exhaustive(saved):
    """Dates, attributes and padding of an archive are not read; everything that is read is covered by its digest."""
    table, whole, load = saved
    harmless = 0
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 0xFF
        if not refused(load, bytes(content)):
            harmless += 1
            assert load(bytes(content)).digest == table.digest
    assert harmless < len(whole) / 2


@contextmanager
def file_of(table):
    """A table in a separate temporary file: hypothesis may not share a test's fixtures between examples."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.npz"
        table.save(path)
        yield path


@given(data=st.data())
def test_flipped_bits_inside_the_members_are_refused_hypothesis(data):
    """The archive's own checksums are repaired, so that the checks behind them are reached."""
    kind, table = TABLES[data.draw(st.sampled_from(sorted(TABLES)))]
    with file_of(table) as path:
        files = {name: bytearray(content) for name, content in members(path.read_bytes()).items()}
        content = files[data.draw(st.sampled_from(sorted(files)))]
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(packed(files.items()))
        result = outcome(lambda: kind.load(path, limit=LIMIT).digest)
        assert result in (TableError, table.digest)


FIELDS = ["format", "policy", "sizes", "shape", "modes", "slots", "steps", "prices", "bounded", "more"]


@given(
    which=st.sampled_from(sorted(TABLES)),
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1),
)
@example("msm", {"sizes": {"hidden": 1, "internal": 10**30, "internal_known": None}})
@example("tiers", {"prices": {"forward": 10**400, "write": 0, "read": 0}})
@example("tiers", {"bounded": [1]})
@example("hsm", {"shape": [1, 4.0, 5]})
@example("hsm", {"shape": [1, True, 5]})
@example("hsm", {"shape": [10**300] * 3})
@example("hsm", {"shape": [-1, -4, 5]})
@example("hsm", {"shape": [1, 4, float("nan")]})
@example("hsm", {"shape": []})
@example("hsm", {"shape": "145"})
def test_a_header_of_arbitrary_content_is_refused_hypothesis(which, changes):
    kind, table = TABLES[which]
    header, digest, arrays = parts(table)
    with file_of(table) as path:
        save_arrays(path, {**header, **changes}, digest, arrays)
        result = outcome(lambda: kind.load(path, limit=LIMIT).digest)
        # What is not part of a table's identity may be added; the table is then still the one that its digest names.
        assert result in (TableError, table.digest)


@given(st.binary(max_size=400), st.sampled_from([PolicyTable, TierTable]))
def test_random_bytes_are_refused_hypothesis(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / "bytes.npz"
    path.write_bytes(content)
    assert outcome(lambda: kind.load(path)) is TableError


@given(st.binary(max_size=400))
def test_random_bytes_as_a_member_are_refused_hypothesis(tmp_path_factory, content):
    with file_of(TABLES["hsm"][1]) as path:
        files = members(path.read_bytes())
        for name in files:
            path.write_bytes(packed((files | {name: content}).items()))
            assert outcome(lambda: PolicyTable.load(path)) is TableError


def array_header(shape, dtype="<i8"):
    """The start of a numpy array's file: it may claim any shape, at no cost."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


LIARS = {
    "an array of another shape than the header's": {"costs.npy": array_header((1, 10**5, 10**5))},
    "an array of a huge type": {"splits.npy": array_header((1, 4, 5), "<U999999999")},
    "an array of objects": {"splits.npy": array_header((1, 4, 5), "|O")},
    "an array with less in it": {"costs.npy": array_header((1, 4, 5)) + b"0" * 159},
    "an array with more in it": {"costs.npy": array_header((1, 4, 5)) + b"0" * 10**7},
    "a type that is a deep expression": {"costs.npy": array_header("(" * 4000 + ")" * 4000)},
    "a header of zeros without end": {"header.npy": array_header((10**8,), "|u1") + b"0" * 10**8},
    "a header of negative size": {"header.npy": b"\x93NUMPY\1\0\xff\x0f" + b"0" * 10**7},
    "deep JSON": {"header.npy": array_header((4000,), "|u1") + b"[" * 4000},
}


@pytest.mark.parametrize("change", LIARS.values(), ids=LIARS)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_lies_is_refused_before_it_is_held_in_memory(change, method, tmp_path):
    path = tmp_path / "table.npz"
    build("hsm", 4, 3).save(path)
    path.write_bytes(packed((members(path.read_bytes()) | change).items(), method))
    for limit in (LIMIT, 2**40):
        assert peak_bytes(lambda limit=limit: PolicyTable.load(path, limit=limit)) < 10**6


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_without_a_bound_is_refused(method, tmp_path):
    path = tmp_path / "table.npz"
    build("hsm", 4, 3).save(path)
    files = members(path.read_bytes()) | {"costs.npy": array_header((1, 4, 5)) + b"0" * 10**7}
    path.write_bytes(packed(files.items(), method))
    assert peak_bytes(lambda: PolicyTable.load(path, limit=LIMIT)) < 10**6


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_or_one_too_many_is_refused(saved):
    _, whole, load = saved
    files = list(members(whole).items())
    assert not refused(load, packed(files))
    for more in (files[1], ("more.npy", b""), ("../costs.npy", b"")):
        assert refused(load, packed([*files, more]))


def test_a_directory_of_a_million_names_is_refused_before_it_is_held_in_memory(tmp_path):
    path = tmp_path / "table.npz"
    build("hsm", 4, 3).save(path)
    whole = path.read_bytes()
    start = whole.index(b"PK\1\2")
    entry = whole[start : whole.index(b"PK", start + 4)]
    directory = entry * 60_000
    path.write_bytes(
        whole[:start] + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, len(directory), start, 0)
    )
    assert path.stat().st_size > 3 * 10**6
    assert peak_bytes(lambda: PolicyTable.load(path)) < 10**6
    lies = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, 200, start, 0)
    long_form = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, len(directory), start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(directory), 1)
    path.write_bytes(whole[:start] + directory + long_form + locator + lies)
    assert peak_bytes(lambda: PolicyTable.load(path)) < 10**6
    path.write_bytes(whole[:start] + directory + long_form + locator[:8] + bytes(8) + locator[16:] + lies)
    assert peak_bytes(lambda: PolicyTable.load(path)) < 10**6


def test_the_long_form_of_a_large_archive_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    path = tmp_path / "table.npz"
    table = build("hsm", 4, 3)
    table.save(path)
    assert b"PK\6\7" in path.read_bytes()
    assert PolicyTable.load(path).digest == table.digest


def test_a_file_larger_than_its_limit_is_refused_unread(tmp_path):
    path = tmp_path / "table.npz"
    path.write_bytes(bytes(10**7))
    assert peak_bytes(lambda: PolicyTable.load(path, limit=10**5)) < 10**5
    with pytest.raises(TableError, match="takes 10000000 bytes; the limit is 100000"):
        PolicyTable.load(path, limit=10**5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are a thing of Unix")
def test_what_is_not_a_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nothing", "/dev/zero"):
        message = "there is no such file" if path == tmp_path / "nothing" else "it is a folder, a pipe or a device"
        with pytest.raises(TableError, match=message):
            PolicyTable.load(path)
        with pytest.raises(UnreadableError, match=message):
            read_text(tmp_path / path)


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 100_000)
@example(b"1e999999")
@example(b"NaN")
@example(b"[Infinity]")
@example(b'{"a": 1, "a": 2}')
@example(b"\xff\xfe")
@example(b"")
def test_json_is_parsed_or_refused_hypothesis(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    result = outcome(lambda: read_json(path))
    if result is not UnreadableError:
        assert json.loads(content) == result


@given(JSON)
def test_json_that_is_written_is_read_back_hypothesis(content):
    text = json.dumps(content)
    strict = outcome(lambda: json.dumps(content, allow_nan=False))
    assert outcome(lambda: parse_json(text)) == (content if strict == text else UnreadableError)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[NaN]", "NaN is not a number"),
        (b'{"a": 1, "a": 2}', "the same key twice"),
        (b"[" * 10**5, "recursion"),
        (b"\xff", "decode"),
        (b"1 2", "Extra data"),
        (b" " * 2000, "limit of 1000 bytes"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_text(tmp_path, content, says):
    path = tmp_path / "any.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=says):
        read_json(path, limit=10**5 if len(content) == 10**5 else 1000)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_whole(path, lambda temporary: temporary.write_text("old"))

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


@given(st.text(max_size=80) | st.lists(st.sampled_from([*"a1- \n#", "hsm 1 - 3 4 "]), max_size=30).map("".join))
@example("hsm 1 - 30 8")
@example("hsm 1 - 30 " + "9" * 5000 + " ab")
@example("hsm 1 - x 8 ab")
def test_a_lock_is_read_or_refused_hypothesis(text):
    result = outcome(lambda: parse_lock(text))
    assert result is LockError or isinstance(result, dict)


def test_a_lock_that_names_a_table_twice_is_refused():
    text = PATH.read_text()
    parse_lock(text)
    with pytest.raises(LockError, match="line 17"):
        parse_lock(text + text.splitlines()[1])


LEDGER = '[[claim]]\nid = "a"\ngroup = "g"\nplace = "ours"\nstatement = "s"\nstatus = "open"\nscope = "all"\n'


@given(st.text(max_size=80))
@example("a = " + "[" * 100_000)
@example("claim = 3")
@example("claim = [3]")
@example("")
@example(LEDGER * 2)
@example(LEDGER.replace("open", "true"))
@example(LEDGER.replace('"open"', "3"))
@example(LEDGER + "more = 1\n")
@example(LEDGER.replace('scope = "all"', "scope = 3"))
def test_a_ledger_is_read_or_refused_hypothesis(text):
    assert outcome(lambda: parse_claims(text)) is ClaimError


def test_a_ledger_of_one_claim_is_read():
    (claim,) = parse_claims(LEDGER)
    assert claim.id == "a"


@pytest.mark.parametrize("module", ["membptt_theory.lock", "membptt_proofs.ledger"])
def test_a_generator_asked_for_help_gives_help_and_writes_nothing(module, monkeypatch, capsys):
    main = import_module(module).main
    monkeypatch.setattr(f"{module}.write_whole", lambda *_: pytest.fail("it wrote"))
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert module in capsys.readouterr().out

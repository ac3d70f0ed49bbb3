"""A table checks itself: a wrong cost, a wasteful split or a damaged file never becomes an instance."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_theory.actions import Sizes
from membptt_theory.archive import TableError
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import Decision
from membptt_theory.tables import build

from .strategies import POLICIES, policies, policy_id

STEPS, SLOTS = 14, 7


def arrays(table):
    """Writable copies of a table's arrays."""
    return {name: getattr(table, name).copy() for name in ("costs", "decisions", "splits")}


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_cost_off_by_one_anywhere_is_refused_exhaustive(policy, sizes):
    table = build(policy, STEPS, SLOTS, **sizes)
    for index in np.ndindex(table.costs[:, 1:, 1:].shape):
        for error in (-1, 1):
            parts = arrays(table)
            parts["costs"][index[0], index[1] + 1, index[2] + 1] += error
            with pytest.raises(TableError):
                PolicyTable(policy, table.sizes, **parts)


def consistent_costs(table, forced):
    """Costs of the policy that takes `forced` = (mode, m, t, decision, y) and follows `table`'s decisions elsewhere."""
    parts = arrays(table)
    rule = table.recurrence
    mode_, m_, t_, decision, y = forced
    parts["decisions"][mode_, m_, t_], parts["splits"][mode_, m_, t_] = decision, y
    for t in range(1, table.steps + 1):
        for mode in range(len(table.costs)):
            for m in range(1, table.slots + 1):
                kind, split = Decision(int(parts["decisions"][mode, m, t])), int(parts["splits"][mode, m, t])
                cut = rule.cut(mode, kind, split, t)
                left = parts["costs"][mode, m, split - cut.taken]
                right = parts["costs"][rule.right_mode(kind), m - cut.room, t - split]
                parts["costs"][mode, m, t] = split + left + right
    return parts


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_worse_but_consistent_split_is_refused_exhaustive(policy, sizes):
    table = build(policy, 10, 5, **sizes)
    refused = 0
    for mode, m, t in np.ndindex(len(table.costs), 5, 10):
        m, t = m + 1, t + 1
        for cut in table.recurrence.cuts[mode]:
            for y in cut.splits(t):
                if cut.room > m or (m == cut.room and t > y):
                    continue
                parts = consistent_costs(table, (mode, m, t, cut.decision, y))
                if (parts["costs"] != table.costs).any():
                    with pytest.raises(TableError):
                        PolicyTable(policy, table.sizes, **parts)
                    refused += 1
    assert refused


@given(policies(), st.integers(1, 30), st.integers(1, 12), st.data())
def test_an_altered_table_is_refused_hypothesis(which, steps, slots, data):
    policy, sizes = which
    table = build(policy, steps, slots, **sizes)
    parts = arrays(table)
    index = (
        data.draw(st.integers(0, len(table.costs) - 1)),
        data.draw(st.integers(1, slots)),
        data.draw(st.integers(1, steps)),
    )
    parts["costs"][index] += data.draw(st.integers(-5, 5).filter(bool))
    with pytest.raises(TableError):
        PolicyTable(policy, table.sizes, **parts)


def test_an_illegal_split_is_refused():
    table = build("hsm", STEPS, SLOTS)
    for split in (0, -1, STEPS, STEPS + 1):
        parts = arrays(table)
        parts["splits"][0, 3, STEPS] = split
        with pytest.raises(TableError):
            PolicyTable("hsm", table.sizes, **parts)


def test_foreign_sizes_and_shapes_are_refused():
    table = build("hsm", STEPS, SLOTS)
    with pytest.raises(TableError, match="sizes"):
        PolicyTable("hsm", Sizes(hidden=1, internal=1), **arrays(table))
    with pytest.raises(TableError, match="costs must be"):
        PolicyTable("hsm", table.sizes, **(arrays(table) | {"costs": table.costs.astype(np.float64)}))
    with pytest.raises(TableError, match="must be"):
        PolicyTable("hsm", table.sizes, **{name: array[:, :, :-1][:, :, :1] for name, array in arrays(table).items()})


def test_arrays_can_never_be_written_to():
    table = build("ism", STEPS, SLOTS)
    with pytest.raises(ValueError, match="read-only"):
        table.costs[0, 1, 1] = 7
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        table.costs.flags.writeable = True


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_saved_table_loads_as_itself(policy, sizes, tmp_path):
    table = build(policy, STEPS, SLOTS, **sizes)
    table.save(tmp_path / "table.npz")
    loaded = PolicyTable.load(tmp_path / "table.npz")
    assert loaded.digest == table.digest
    assert loaded.sizes == table.sizes
    assert [file.name for file in tmp_path.iterdir()] == ["table.npz"]


def test_digests_tell_policies_apart_and_builds_together():
    digests = {build(policy, 20, 6, **sizes).digest for policy, sizes in POLICIES}
    assert len(digests) == len(POLICIES)
    assert build("hsm", 20, 6).digest == PolicyTable("hsm", Sizes(1, None), **arrays(build("hsm", 20, 6))).digest


def test_a_failed_save_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        build("hsm", 5, 5).save(tmp_path / "table.npz")
    assert not list(tmp_path.iterdir())


def rewrite(path, change):
    """Apply `change` to the header of a saved table."""
    with np.load(path) as data:
        stored = dict(data)
    header = json.loads(bytes(stored["header"]))
    change(header, stored)
    stored["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez_compressed(path, **stored)


def wrong_digest(header, _):
    header["digest"] = "0" * 64


def wrong_version(header, _):
    header["table"]["format"] = "membptt-policy-table/99"


def huge(header, _):
    header["table"]["shape"] = [1, 8, 10**15]


def smaller_than_arrays(header, stored):
    header["table"]["shape"] = [1, 2, 2]
    stored["costs"] = np.zeros((1, 500, 500), dtype=np.int64)


def no_array(_, stored):
    del stored["splits"]


def other_policy(header, _):
    header["table"]["policy"] = "ism"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (wrong_digest, "digest"),
        (wrong_version, "rebuild the table"),
        (huge, "the limit is"),
        (smaller_than_arrays, "must be <i8 of the header's shape"),
        (no_array, "splits"),
        (other_policy, "sizes"),
    ],
)
def test_a_doctored_file_is_one_clear_error(change, says, tmp_path):
    path = tmp_path / "table.npz"
    build("hsm", STEPS, SLOTS).save(path)
    rewrite(path, change)
    with pytest.raises(TableError, match=says):
        PolicyTable.load(path)


def test_a_file_truncated_anywhere_is_one_clear_error_exhaustive(tmp_path):
    path = tmp_path / "table.npz"
    build("hsm", 5, 3).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(TableError):
            PolicyTable.load(path)


@given(st.binary(max_size=300))
def test_random_bytes_are_one_clear_error_hypothesis(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.npz"
    path.write_bytes(content)
    with pytest.raises(TableError):
        PolicyTable.load(path)


def test_a_missing_file_and_a_pickle_are_one_clear_error(tmp_path):
    with pytest.raises(TableError):
        PolicyTable.load(tmp_path / "nothing.npz")
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "pickle.npz", "w") as archive:
        archive.writestr("header.npy", buffer.getvalue())
    with pytest.raises(TableError):
        PolicyTable.load(tmp_path / "pickle.npz")


def test_questions_outside_the_table_are_refused():
    table = build("hsm", STEPS, SLOTS)
    for steps, slots in ((-1, 1), (STEPS + 1, 1), (1, 0), (1, SLOTS + 1)):
        with pytest.raises(ValueError, match="for this table"):
            table.cost(steps, slots)
    with pytest.raises(ValueError, match="for this table"):
        table.decision(0, 1)
    with pytest.raises(TypeError, match="integer"):
        table.cost(2.0, 1)
    assert table.decision(1, 1) == (Decision.LAST, 1)
    with pytest.raises(ValueError, match="no cut"):
        table.recurrence.room(0, Decision.INTERNAL, 1, 5)

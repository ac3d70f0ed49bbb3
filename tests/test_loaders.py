"""Data sets from a local path: small files written here are read exactly; anything else is one clear error."""

import gzip
import random
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import loaders
from bench.loaders import DataSetError, load_idx, load_mnist, load_text


def idx(array, kind=0x08):
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def mnist(folder, pack=bytes, suffix="", images=None, labels=None):
    for split in ("train", "t10k"):
        array = pixels(6, 5, 4) if images is None else images
        named = np.arange(6, dtype=np.uint8) if labels is None else labels
        (folder / f"{split}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(array)))
        (folder / f"{split}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(named)))
    return folder


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz"), (gzip.compress, "")])
@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_is_read_row_by_row(pack, suffix, split, tmp_path):
    images = load_mnist(mnist(tmp_path, pack, suffix), split)
    assert np.array_equal(images.pixels, pixels(6, 5, 4).reshape(6, 20))
    assert images.labels.tolist() == list(range(6))


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (2, 3), (2, 3, 4), (1, 2, 3, 4)])
def test_an_array_of_any_shape_is_read_exactly(shape, tmp_path):
    path = tmp_path / "array"
    path.write_bytes(idx(pixels(*shape)))
    assert np.array_equal(load_idx(path), pixels(*shape))
    assert load_idx(path).shape == shape


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("keep", range(0, 4 + 8 + 6, 1))
def test_a_truncated_array_is_refused_wherever_it_is_cut(pack, keep, tmp_path):
    path = tmp_path / "array"
    path.write_bytes(pack(idx(pixels(2, 3))[:keep]))
    with pytest.raises(DataSetError, match=r"truncated|no IDX|holds only"):
        load_idx(path)


def test_truncated_gzip_is_refused_wherever_it_is_cut(tmp_path):
    whole = gzip.compress(idx(pixels(20, 3)))
    path = tmp_path / "array.gz"
    for keep in range(len(whole)):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataSetError):
            load_idx(path)
        if keep >= 2:
            with pytest.raises(DataSetError):
                load_text(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 4, (2**32 - 1,), (2**16, 2**16), (loaders.LARGEST + 1,)])
def test_a_huge_header_is_refused_before_anything_is_allocated(pack, shape, tmp_path):
    path = tmp_path / "array"
    path.write_bytes(pack(bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)))
    tracemalloc.start()
    with pytest.raises(DataSetError, match="are allowed"):
        load_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "array"
    path.write_bytes(gzip.compress(idx(np.zeros(5, np.uint8)) + bytes(2**26)))
    tracemalloc.start()
    with pytest.raises(DataSetError, match="and holds more"):
        load_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 a zip archive", "no IDX file"),
        (b"\0\0\x0d\x01\0\0\0\1\0\0\0\0", "type 0x0d"),
        (b"\0\0\x08\x00", "has 0 dimensions"),
        (b"\0\0\x08\x05" + bytes(20), "has 5 dimensions"),
        (idx(pixels(3)) + b"x", "and holds more"),
    ],
)
def test_a_foreign_file_is_named(content, message, tmp_path):
    path = tmp_path / "array"
    path.write_bytes(content)
    with pytest.raises(DataSetError, match=message):
        load_idx(path)


@given(content=st.binary(max_size=60), marked=st.booleans())
def test_random_bytes_are_read_or_refused_hypothesis(content, marked, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "random"
    path.write_bytes((b"\0\0\x08" if marked else b"") + content)
    try:
        array = load_idx(path)
    except DataSetError:
        return
    assert idx(array) == path.read_bytes()


def test_a_damaged_file_is_read_or_refused_sampled(tmp_path):
    chance = random.Random(0)
    path = tmp_path / "array"
    for whole in (idx(pixels(4, 5)), gzip.compress(idx(pixels(4, 5)))):
        for _ in range(2000):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            path.write_bytes(damaged)
            for load in (load_idx, load_text):
                try:
                    load(path)
                except DataSetError:
                    continue


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (pixels(5, 2, 2), None, "no pair"),
        (pixels(6, 4), None, "no pair"),
        (pixels(0, 2, 2), np.zeros(0, np.uint8), "no pair"),
        (None, np.full(6, 10, np.uint8), "a label is 10"),
        (None, np.zeros((6, 1), np.uint8), "no pair"),
    ],
)
def test_images_and_labels_that_do_not_match_are_refused(images, labels, message, tmp_path):
    with pytest.raises(DataSetError, match=message):
        load_mnist(mnist(tmp_path, images=images, labels=labels), "train")


def test_absent_files_are_named(tmp_path):
    with pytest.raises(DataSetError, match=r"holds neither train-images-idx3-ubyte nor .*\.gz; nothing is downloaded"):
        load_mnist(tmp_path, "train")
    with pytest.raises(DataSetError, match="is no file"):
        load_text(tmp_path)
    with pytest.raises(DataSetError, match="is no file"):
        load_idx(tmp_path / "absent")
    with pytest.raises(ValueError, match="split must be"):
        load_mnist(tmp_path, "valid")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_text_is_numbered_and_cut_into_three(pack, tmp_path):
    whole = bytes(range(200, 256)) * 20 + b"abc" * 40
    path = tmp_path / "enwik8"
    path.write_bytes(pack(whole))
    text = load_text(path)
    parts = np.concatenate([text.train, text.valid, text.test])
    assert np.frombuffer(text.vocabulary, np.uint8)[parts].tobytes() == whole
    assert list(text.vocabulary) == sorted(set(whole))
    assert [len(part) for part in (text.train, text.valid, text.test)] == [1116, 62, 62]
    assert len(load_text(path, limit=100, valid=0.2, test=0.3).train) == 50


@given(st.binary(max_size=300), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_any_text_is_restored_or_refused_hypothesis(content, valid, test):
    if valid + test >= 1:
        return
    try:
        text = loaders.split_text(content, valid=valid, test=test, source="here")
    except DataSetError:
        assert len(content) * min(valid, test, 1 - valid - test) < 1
        return
    parts = [text.train, text.valid, text.test]
    assert all(len(part) for part in parts)
    assert np.frombuffer(text.vocabulary, np.uint8)[np.concatenate(parts)].tobytes() == content


@pytest.mark.parametrize("content", [b"", b"a", b"ab", b"abc"])
def test_a_text_too_short_for_three_parts_is_refused(content, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(DataSetError, match="too few"):
        load_text(path)


def test_a_text_that_is_too_large_asks_for_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(loaders, "LARGEST_TEXT", 1000)
    path = tmp_path / "text"
    path.write_bytes(b"ab" * 501)
    with pytest.raises(DataSetError, match="give a limit"):
        load_text(path)
    assert len(load_text(path, limit=900).train) == 810


@pytest.mark.parametrize("options", [{"valid": 0}, {"valid": 0.6, "test": 0.4}, {"limit": 0}, {"limit": True}])
def test_senseless_shares_and_limits_are_refused(options, tmp_path):
    with pytest.raises(ValueError, match=r"shares|limit must be"):
        load_text(tmp_path / "any", **options)

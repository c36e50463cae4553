from __future__ import annotations

import io
import os
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import pax

NAMES = st.binary(min_size=1, max_size=130).filter(lambda name: b"/" not in name and b"\0" not in name)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: os.fsdecode(b"/".join(names)))
XATTRS = st.dictionaries(
    st.text(alphabet="abc=%.", min_size=1, max_size=20).map("user.".__add__), st.binary(max_size=60), max_size=3
)
MEMBERS = st.builds(
    pax.Member,
    path=PATHS,
    kind=st.sampled_from(["file", "folder", "symlink", "hardlink", "fifo", "char", "block"]),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    mtime_ns=st.integers(-(10**20), 10**20),
    target=PATHS,
    device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20)),
    xattrs=XATTRS,
)


def decoded(raw: bytes) -> pax.Member:
    block, extended = raw[:512], b""
    if pax.is_extended(block):
        size = pax.block_size(block)
        extended, raw = raw[512 : 512 + size], raw[512 + size + -size % 512 :]
        block = raw[:512]
    assert len(raw) in {512, 1024}
    return pax.decode(raw[-512:], extended)


@pytest.mark.slow
@given(MEMBERS, st.integers(0, 2**62))
def test_every_member_comes_back_from_its_header(member: pax.Member, size: int) -> None:
    if member.kind not in {"char", "block"}:
        member.device = (0, 0)
    if member.kind == "file":
        member.size = member.stored = size
    assert decoded(pax.encode(member)) == member


@pytest.mark.slow
@given(MEMBERS)
def test_the_standard_librarys_tarfile_reads_the_same(member: pax.Member) -> None:
    with tarfile.open(fileobj=io.BytesIO(pax.encode(member) + pax.END)) as archive:
        (found,) = archive.getmembers()
    assert os.fsencode(found.name) == os.fsencode(member.path).rstrip(b"/")
    assert (found.mode, found.uid, found.gid) == (member.mode, member.uid, member.gid)
    assert found.mtime == pytest.approx(member.mtime_ns / 1e9)


@pytest.mark.parametrize("length", [*range(85, 105), *range(985, 1005), 10_000])
def test_the_length_of_a_record_counts_itself(length: int) -> None:
    raw = pax._record(b"path", b"x" * length)
    assert int(raw.split(b" ")[0]) == len(raw)


@given(st.data())
def test_a_flipped_bit_in_a_header_is_found(data: st.DataObject) -> None:
    raw = bytearray(pax.encode(pax.Member(path="a/b", kind="file", size=5, stored=5)))
    at = data.draw(st.integers(0, 511).filter(lambda at: not 148 <= at < 156))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SnapshotError, match="damaged"):
        decoded(bytes(raw))


@given(st.binary(max_size=200))
def test_any_bytes_as_extended_header_are_read_or_refused(raw: bytes) -> None:
    plain = pax.encode(pax.Member(path="a", kind="file"))
    with suppress(SnapshotError):
        assert pax.decode(plain, raw).kind == "file"


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), max_size=30))
def test_a_sparse_map_comes_back(gaps: list[tuple[int, int]]) -> None:
    segments, end = [], 0
    for gap, length in gaps:
        segments.append((end + gap, length))
        end += gap + length
    raw = pax.encode_map(segments, end + 7)
    assert len(raw) % 512 == 0
    numbers = [int(line) for line in raw.rstrip(b"\0").split(b"\n")[:-1]]
    assert pax.decode_map(numbers[1:], end + 7) == [*segments, (end + 7, 0)]


@pytest.mark.parametrize("numbers", [[0, 5, 3, 4], [0, 11], [9, 2]])
def test_a_sparse_map_that_overlaps_or_passes_the_end_is_refused(numbers: list[int]) -> None:
    with pytest.raises(SnapshotError, match="overlap"):
        pax.decode_map(numbers, 10)

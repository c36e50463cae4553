"""
Archives and manifests made by somebody who may write the volume: every digest fits, and something in them is odd.

What reads them refuses them in the package's own words or gets along; nothing outside the target is touched.
IDLEWATCH_TEST_HOSTILE says how many are made (in `make test` some hundred); each is made from its number.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import pytest

from idlewatch.errors import IdlewatchError, SnapshotError
from idlewatch.snapshot import Snapshot, note_image, pax, restore, save, snapshots, verify
from idlewatch.snapshot.codec import new_decompressor
from idlewatch.snapshot.digests import digests_of
from idlewatch.snapshot.index import index_line
from idlewatch.snapshot.manifest import FORMAT
from idlewatch.snapshot.packed import opened as archive_of
from idlewatch.snapshot.sink import Sink
from idlewatch.snapshot.source import index_lines
from tests.snapshot_trees import POD, birth, content_digest, request, saved, state, write

ROUNDS = int(os.environ.get("IDLEWATCH_TEST_HOSTILE", "100"))
FIRST = int(os.environ.get("IDLEWATCH_TEST_HOSTILE_FROM", "0"))
pytestmark = pytest.mark.timeout(36_000 if ROUNDS > 1000 else 120)

ODD_TEXTS = (
    *("", ".", "..", "/", "a/../../out", "/etc/out", "x" * 5000, "\0", "a\0b", "\ud800", "\udcff", "-rf", "\x1b[2J"),
    *("ü", "a/", "/a", "a//b", "%00", "20261124T000000Z", "nowhere", "../out", "own0/1/below", "link/below", "own0"),
)
ODD_NUMBERS = (-1, 0, 1, 511, 512, 513, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**19, 10**30, -(2**63), -(10**30))
ANY_KINDS = ("file", "file", "folder", "symlink", "hardlink", "char", "block", "fifo")
ODD_FIELDS = ("mode", "uid", "gid", "mtime_ns", "ctime_ns", "device", "path", "target", "xattrs")
ODD_XATTRS = ("user.x", "user.=%", "security.capability", "trusted.x", "x", "system.posix_acl_access", "user." * 80)
ODD: tuple[object, ...] = (None, True, 1.5, float("inf"), float("nan"), [], {}, [[]], ["x"], *ODD_TEXTS, *ODD_NUMBERS)


class Hostile:
    """A whole snapshot with one of everything, and what can be made of it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.volume, self.state_dir = folder / "root", folder / "volume", folder / "state"
        self.target, self.outside = folder / "target", write(folder / "outside/witness", "untouched").parent
        for number in range(3):
            write(self.root / f"image/{number}", "of the image")
        self.since_ns = birth(self.root)
        self.state_dir.mkdir()
        note_image(self.state_dir, self.root, since_ns=self.since_ns, now_ns=self.since_ns, mounts=())
        (self.root / "image/1").unlink()
        for number in range(12):
            write(self.root / f"own{number % 3}" / f"{number}", f"{number}" * 50)
        os.link(self.root / "own0/0", self.root / "own1/linked")
        (self.root / "link").symlink_to(self.outside)
        (self.root / "dangling").symlink_to("nowhere")
        os.mkfifo(self.root / "fifo")
        with (self.root / "sparse").open("wb") as file:
            file.truncate(1 << 20)
            file.seek(1 << 19)
            file.write(b"in the middle")
        self.whole = saved(self.root, self.volume, since_ns=self.since_ns, state_dir=self.state_dir)
        self.manifest = self.whole.archive_path.with_name(f"{self.whole.id}.json")
        self.good = {path: path.read_bytes() for path in self.manifest.parent.iterdir()}
        self.stream, self.lines = opened(self.whole)

    def mend(self) -> None:
        shutil.rmtree(self.manifest.parent)
        self.manifest.parent.mkdir(mode=0o700)
        for path, content in self.good.items():
            path.write_bytes(content)

    def write(self, stream: bytes, lines: list[bytes], **changes: object) -> None:
        """Put an archive of this tar stream and this index there, with a manifest that agrees with it."""
        archive = io.BytesIO()
        with Sink(archive.write, 0, digests_of(FORMAT)) as sink:
            sink.put(stream)
            for line in lines:
                sink.note(line + b"\n")
            index_at = sink.finish()
        self.whole.archive_path.write_bytes(archive.getvalue())
        agrees = {
            "index_at": index_at,
            "members": len(lines),
            "tar_bytes": len(stream),
            "archive_bytes": sink.packed_bytes,
            "archive_digest": sink.hexdigest(),
        }
        self.tell({**agrees, **changes})

    def tell(self, changes: dict[str, object]) -> None:
        self.manifest.write_bytes(sealed({**json.loads(self.good[self.manifest]), **changes}))

    def survives(self) -> None:
        """All that reads a snapshot, in the order in which a Pod would come to it."""
        for read in (self._read, self._save):
            with suppress(IdlewatchError):
                read()
        assert [path.name for path in self.outside.iterdir()] == ["witness"]
        assert (self.outside / "witness").read_text() == "untouched"

    def _read(self) -> None:
        for snapshot in snapshots(self.volume, POD):
            for look in (verify, self._restored):
                try:
                    look(snapshot)
                except SnapshotError:
                    continue

    def _restored(self, snapshot: Snapshot) -> None:
        self.target.mkdir()
        try:
            restore(snapshot, self.target, dry_run=True)
            assert not list(self.target.iterdir())
            write(self.target / "image/1", "of the image")
            restore(snapshot, self.target, since_ns=self.since_ns)
            restore(snapshot, self.target, overwrite=True)
        finally:
            shutil.rmtree(self.target)

    def _save(self) -> None:
        save(request(self.root, self.volume, since_ns=self.since_ns, state_dir=self.state_dir, keep=1))


def opened(snapshot: Snapshot) -> tuple[bytes, list[bytes]]:
    """The tar stream and the index of an archive."""
    with archive_of(snapshot, None) as file:
        stream = new_decompressor().decompress(snapshot.archive_path.read_bytes()[: snapshot.index_at])
        return stream, list(index_lines(file, index_at=snapshot.index_at))


def sealed(values: dict[str, object]) -> bytes:
    values.pop("seal", None)
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return json.dumps({**values, "seal": blake2b(canonical.encode(), digest_size=16).hexdigest()}).encode()


def odd_manifest(hostile: Hostile, chance: random.Random) -> None:
    values = json.loads(hostile.good[hostile.manifest])
    names = chance.sample(sorted(values), chance.choice((1, 1, 1, 2, 3)))
    hostile.tell({name: odd_like(values[name], chance) for name in names})


def odd_like(value: object, chance: random.Random) -> object:
    """Something odd, mostly of the same type: that is what comes past the first look."""
    if chance.random() < 0.15:
        return chance.choice(ODD)
    if isinstance(value, list):
        return [chance.choice((*ODD_TEXTS, *ODD)) for _ in range(chance.randrange(4))]
    if isinstance(value, int):
        return chance.choice((*ODD_NUMBERS, value + 1, value - 1, value * 2))
    return chance.choice(ODD_TEXTS)


def odd_index(hostile: Hostile, chance: random.Random) -> None:
    lines = list(hostile.lines)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(lines))
        fields = json.loads(hostile.lines[at])
        fields[chance.randrange(len(fields))] = chance.choice(ODD)
        odd = (json.dumps(fields), json.dumps(chance.choice(ODD)), "[" * 50_000, "{}", '["a"]', "[1,2,3,4,5,6]", "")
        lines[at] = chance.choice((odd[0], odd[0], odd[0], *odd)).encode("utf-8", "surrogatepass")
    if chance.random() < 0.2:
        chance.shuffle(lines)
    hostile.write(hostile.stream, lines)


def odd_headers(hostile: Hostile, chance: random.Random) -> None:
    """Fields of headers replaced, with sums that fit; the index agrees as far as it can be had from them."""
    stream = bytearray(hostile.stream)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = pax.BLOCK_BYTES * chance.randrange(len(stream) // pax.BLOCK_BYTES)
        begin, end = chance.choice(((0, 100), (100, 108), (108, 116), (124, 136), (136, 148), (156, 157), (157, 257)))
        odd = (b"7" * 200, b"0" * 200, b"", b"x", b"\xff" * 200, b"../../out", b"5", b"1", b"2", os.urandom(100))
        stream[at + begin : at + end] = chance.choice(odd)[: end - begin].ljust(end - begin, b"\0")
        if chance.random() < 0.8:
            told = sum(stream[at : at + 148]) + sum(stream[at + 156 : at + 512]) + 8 * 0x20
            stream[at + 148 : at + 156] = b"%06o\0 " % told
    hostile.write(bytes(stream), hostile.lines)


def odd_records(hostile: Hostile, chance: random.Random) -> None:
    """Values of extended headers replaced by others of the same length, so that all else fits."""
    stream = bytearray(hostile.stream)
    words = (b"mtime=", b"ctime=", b"GNU.sparse.realsize=", b"GNU.sparse.name=", b"GNU.sparse.major=", b"path=")
    places = [(at, len(word)) for word in words for at in found(hostile.stream, word)]
    for at, length in chance.sample(places, min(len(places), chance.choice((1, 1, 3)))):
        end = stream.index(b"\n", at)
        value = chance.choice((b"9", b"0", b"-", b"/", b".", b"\xff", b"1", b"a")) * (end - at - length)
        stream[at + length : end] = value
    hostile.write(bytes(stream), hostile.lines)


def found(text: bytes, word: bytes) -> list[int]:
    return [at for at in range(len(text)) if text.startswith(word, at)]


def odd_bytes(hostile: Hostile, chance: random.Random) -> None:
    """Bits flipped, pieces cut out and ends cut off, anywhere in the archive, and its digest made to fit."""
    raw = bytearray(hostile.good[hostile.whole.archive_path])
    for _ in range(chance.choice((1, 1, 3, 20))):
        at = chance.randrange(len(raw))
        if chance.random() < 0.7:
            raw[at] ^= 1 << chance.randrange(8)
        else:
            del raw[at : at + chance.choice((1, 5, len(raw)))]
            raw = raw or bytearray(b"\0")
    hostile.whole.archive_path.write_bytes(raw)
    digest = digests_of(FORMAT).archive(raw)
    hostile.tell({"archive_bytes": len(raw), "archive_digest": digest.hexdigest()})


def odd_members(hostile: Hostile, chance: random.Random) -> None:
    """Members that no tree has, with an index that agrees with each."""
    stream, lines = b"", []
    for number in range(chance.randrange(1, 6)):
        content = chance.choice((b"", b"x" * 600))
        member = pax.Member(path=chance.choice(("a", "a/b", "b", f"new{number}")), kind=chance.choice(ANY_KINDS))
        member.target = chance.choice(("a", "b", "..", "/etc/out", "", "x" * 5000))
        content = content if member.kind == "file" else b""
        member.size = member.stored = len(content)
        for name in chance.sample(ODD_FIELDS, 2):
            setattr(member, name, odd_field(name, chance))
        digest = content_digest(content) if member.kind == "file" else None
        with suppress(ValueError):  # a header that can't be written
            stream += pax.encode(member) + content + pax.padding(len(content))
            lines.append(index_line(member, digest).rstrip(b"\n"))
    hostile.write(stream + pax.END, lines)


def odd_field(name: str, chance: random.Random) -> object:
    if name in ("path", "target"):
        return chance.choice(ODD_TEXTS)
    if name == "device":
        return chance.choice((0, 8, 2**20, 2**21 - 1)), chance.choice((0, 3, 2**21 - 1))
    if name == "xattrs":
        return {chance.choice(ODD_XATTRS): chance.choice((b"", b"x", b"x" * 70_000, b"\xff\0"))}
    least = -(10**12) * 10**9 if name.endswith("_ns") else 0
    most = 0o7777777 if name == "mode" else 10**12 * 10**9 if name.endswith("_ns") else 10**18
    return chance.choice([number for number in (*ODD_NUMBERS, 10**20, 0o7777, 0o7777777) if least <= number <= most])


def odd_sparse(hostile: Hostile, chance: random.Random) -> None:
    """The map of a sparse file, made up."""
    numbers = [chance.choice((0, 1, 2, 3, 600, 1 << 20, 10**9, 10**18, 10**19)) for _ in range(chance.randrange(1, 8))]
    size = chance.choice((0, 3, 600, 1 << 20, 10**12, 2**63 - 1, 10**19 - 1))
    raw = b"".join(b"%d\n" % number for number in numbers)
    content = raw + pax.padding(len(raw)) + b"x" * chance.choice((0, 1, 3, 600))
    member = pax.Member(path="sparse", kind="file", size=size, stored=len(content), sparse=True)
    line = index_line(member, content_digest(content)).rstrip(b"\n")
    hostile.write(pax.encode(member) + content + pax.padding(len(content)) + pax.END, [line])


def odd_texts(hostile: Hostile, chance: random.Random) -> None:
    """No manifest at all, but a file of that name."""
    deep = b'{"a":' * 30_000
    odd = (b"", b"null", b"[]", b"{}", deep, b"[" * 100_000, b"\xff\xfe", b"1" * 100_000, os.urandom(100), b'"\\ud800"')
    hostile.manifest.write_bytes(chance.choice(odd))


KINDS = (
    *(odd_manifest, odd_index, odd_index, odd_headers, odd_records, odd_bytes, odd_texts, odd_members, odd_members),
    odd_sparse,
)


def test_nothing_that_is_odd_raises_anything_but_our_own_errors(tmp_path: Path) -> None:
    hostile, escaped = Hostile(tmp_path), []
    for number in range(FIRST, FIRST + ROUNDS):
        kind = KINDS[number % len(KINDS)]
        hostile.mend()
        kind(hostile, random.Random(number))
        try:
            hostile.survives()
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            escaped.append((number, kind.__name__, repr(error)[:300]))
    assert escaped == []


def test_the_whole_one_survives_its_own_taking_apart(tmp_path: Path) -> None:
    """What the others change is whole where nothing is changed."""
    hostile = Hostile(tmp_path)
    hostile.write(hostile.stream, hostile.lines)
    (snapshot,) = snapshots(hostile.volume, POD)
    hostile.target.mkdir()
    restore(snapshot, hostile.target)
    there, wanted = state(hostile.target), state(hostile.root)
    assert {path for path, facts in wanted.items() if there.get(path) != facts} == {"image/0", "image/2"}

"""Encrypted snapshots: nothing readable on the volume, whole with the key and the `age` tool, refused without."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlewatch import assembly
from idlewatch.cli import main
from idlewatch.errors import Refused, SettingsError, SnapshotError
from idlewatch.pod.assembled import assembled
from idlewatch.pod.saving import with_key
from idlewatch.settings import Loaded, load
from idlewatch.settings.sources import Source
from idlewatch.snapshot import Key, SaveRequest, Snapshot, excludes_of, new_key, note_image, restore, snapshots, verify
from idlewatch.snapshot.age import HEADER_BYTES, PIECE_BYTES, SealedContent, seal, unseal
from idlewatch.snapshot.packed import opened
from tests.snapshot_trees import POD, birth, hostile_tree, request, saved, state, write

pytest.importorskip("cryptography")

SECRET = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
"""Thirty-two times 0x42, of the test vectors of C2SP's specification (CCTV, age)."""
KEY, OTHER = Key(SECRET), Key(new_key())


def test_a_key_reads_as_age_writes_it_and_shows_nothing() -> None:
    assert KEY._secret == b"\x42" * 32
    text = new_key()
    assert Key(text)._secret == Key(text.lower() + "\n")._secret
    assert SECRET not in repr(KEY)
    assert SECRET not in repr(request(Path("/a"), Path("/b"), key=KEY))


@pytest.mark.parametrize("text", ["", "secret", SECRET[:-1], SECRET[:-1] + "Y", SECRET.replace("G", "g", 1), "1"])
def test_what_is_no_key_is_refused_without_being_told(text: str) -> None:
    with pytest.raises(ValueError, match="age-keygen") as told:
        Key(text)
    assert len(text) < 5 or text not in str(told.value)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([0, 1, 2, 17]), st.sampled_from([-1, 0, 1]))
def test_any_content_comes_back(some: bytes, pieces: int, more: int) -> None:
    content = (some * (1 + pieces * PIECE_BYTES // max(1, len(some))))[: max(0, pieces * PIECE_BYTES + more)] or some
    sealed = seal(KEY, content)
    assert unseal(KEY, sealed) == content
    assert some not in sealed or len(some) < 5
    with pytest.raises(SnapshotError, match="not the key"):
        unseal(OTHER, sealed)


SEALED = seal(KEY, bytes(range(256)) * 600)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(at: int, bit: int) -> None:
    bad = bytearray(SEALED)
    bad[at] ^= 1 << bit
    with pytest.raises(SnapshotError):
        unseal(KEY, bytes(bad))


def test_bits_of_the_header_that_say_nothing_must_be_zero() -> None:
    """Base64 of 32 bytes leaves two bits over; the last ones of the header are not covered by its own sum."""
    at = HEADER_BYTES - 2
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = letters[letters.index(SEALED[at]) ^ 1]
    with pytest.raises(SnapshotError, match="damaged"):
        unseal(KEY, SEALED[:at] + bytes([other]) + SEALED[at + 1 :])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(SEALED) - 1))
def test_what_is_cut_off_is_found(length: int) -> None:
    with pytest.raises(SnapshotError):
        unseal(KEY, SEALED[:length])


def test_pieces_that_change_places_or_are_left_out_are_found() -> None:
    head, piece = len(SEALED) - (256 * 600 + 3 * 16), PIECE_BYTES + 16
    first, second, last = (
        SEALED[head : head + piece],
        SEALED[head + piece : head + 2 * piece],
        SEALED[head + 2 * piece :],
    )
    for order in ((second, first, last), (first, last), (first, second), (first, second, last, last)):
        with pytest.raises(SnapshotError, match="damaged"):
            unseal(KEY, SEALED[:head] + b"".join(order))


def test_one_piece_is_read_without_the_others() -> None:
    asked: list[tuple[int, int]] = []

    def read(at: int, size: int) -> bytes:
        asked.append((at, size))
        return SEALED[at : at + size]

    content = SealedContent(KEY, read, len(SEALED))
    assert content.piece(1, 1, lambda _: None) == (bytes(range(256)) * 600)[PIECE_BYTES : 2 * PIECE_BYTES]
    assert len(asked) == 2


class Pod:
    def __init__(self, tmp_path: Path) -> None:
        self.root, self.volume, self.state_dir = tmp_path / "root", tmp_path / "volume", tmp_path / "state"
        for folder in (self.volume, self.state_dir):
            folder.mkdir()
        write(self.root / "image-file", "of the image", 1_600_000_000_000_000_000)
        write(self.root / "telltale-deleted", "of the image", 1_600_000_000_000_000_000)
        self.since_ns = birth(self.root)
        note_image(self.state_dir, self.root, since_ns=self.since_ns, now_ns=self.since_ns, mounts=())
        write(self.root / "telltale-name", "telltale content")
        write(self.root / "telltale-big", os.urandom(3_000_000))
        (self.root / "telltale-deleted").unlink()

    def save(self, key: Key | None = KEY, **more: object) -> Snapshot:
        return saved(
            self.root, self.volume, since_ns=self.since_ns, state_dir=self.state_dir, **{"keep": 9, "key": key, **more}
        )


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_nothing_on_the_volume_tells_a_name(pod: Pod) -> None:
    made = pod.save()
    assert made.deleted == ("telltale-deleted",)
    for path in pod.volume.rglob("*"):
        assert "telltale" not in path.name
        assert path.is_dir() or b"telltale" not in path.read_bytes()
    names = sorted(path.name for path in made.archive_path.parent.iterdir())
    ends = [".json", ".tar.zst.age", ".txt.age"]
    assert names == [*(f"{made.id}{end}" for end in ends), f"image-{made.image}.names.age", "save.lock"]


def test_a_hostile_tree_comes_back_with_the_key(tmp_path: Path) -> None:
    hostile_tree(tmp_path / "root")
    snapshot = saved(tmp_path / "root", tmp_path / "volume", key=KEY)
    (listed,) = snapshots(tmp_path / "volume", POD)
    assert listed.id == snapshot.id
    verify(listed, key=KEY)
    (tmp_path / "target").mkdir()
    restore(listed, tmp_path / "target", key=KEY)
    assert state(tmp_path / "target") == state(tmp_path / "root")


@pytest.mark.parametrize(("key", "why"), [(None, "set IDLEWATCH_SNAPSHOT_KEY"), (OTHER, "is not the key")])
def test_without_its_key_nothing_is_touched(pod: Pod, tmp_path: Path, key: Key | None, why: str) -> None:
    pod.save()
    (listed,) = snapshots(pod.volume, POD)
    (target := tmp_path / "target").mkdir()
    with pytest.raises(SnapshotError, match=why):
        restore(listed, target, key=key)
    with pytest.raises(SnapshotError, match=why):
        verify(listed, key=key)
    assert list(target.iterdir()) == []


def test_the_verbs_that_list_tell_no_path_of_what_is_encrypted(
    pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = pod.save(excludes=excludes_of(leave_out=["/telltale-big"]))
    for name, value in {
        "IDLEWATCH_VOLUME": pod.volume,
        "IDLEWATCH_SAVE_ROOT": pod.root,
        "IDLEWATCH_STATE_DIR": tmp_path / "no-state",
        "IDLEWATCH_SNAPSHOT_KEY": SECRET,
        "RUNPOD_POD_ID": POD,
    }.items():
        monkeypatch.setenv(name, str(value))
    for verb in (["snapshots", "--json"], ["snapshots"]):
        assert main(verb) == 0
        said = capsys.readouterr().out
        assert made.id in said
        assert "telltale" not in said
    assert main(["snapshots", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["snapshots"]
    assert row["encrypted"] is True
    assert "locked" not in row


def test_a_differential_builds_only_upon_what_its_key_opens(pod: Pod, tmp_path: Path) -> None:
    first = pod.save()
    write(pod.root / "more", "more")
    second = pod.save()
    assert second.base == first.id
    assert pod.save(key=OTHER).base is None
    plain = pod.save(key=None)
    assert (plain.base, plain.archive.endswith(".tar.zst")) == (None, True)
    write(pod.root / "more", "still more")
    assert pod.save(key=None).base == plain.id
    assert pod.save().base is None
    (target := tmp_path / "target").mkdir()
    restore(second, target, key=KEY)
    assert (target / "more").read_text() == "more"
    assert (target / "telltale-big").read_bytes() == (pod.root / "telltale-big").read_bytes()


def test_plain_ones_stay_readable_with_a_key_and_all_are_pruned(pod: Pod, tmp_path: Path) -> None:
    plain = pod.save(key=None)
    (target := tmp_path / "target").mkdir()
    restore(plain, target, key=KEY)
    assert (target / "telltale-name").read_text() == "telltale content"
    for key in (OTHER, KEY):
        pod.save(key=key, keep=1, incremental=False)
    (left,) = snapshots(pod.volume, POD)
    files = {path.name for path in left.archive_path.parent.iterdir() if left.id in path.name}
    assert files == {f"{left.id}{end}" for end in (".json", ".txt.age", ".tar.zst.age")}
    assert len([path for path in left.archive_path.parent.iterdir() if path.name.endswith(".age")]) == 3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_of_an_encrypted_archive_is_refused_before_anything_is_written(
    tmp_path: Path, data: st.DataObject
) -> None:
    root, volume = tmp_path / "root", tmp_path / "volume"
    if not root.exists():
        for number in range(30):
            write(root / f"d{number % 3}" / f"{number}", os.urandom(7000))
        saved(root, volume, key=KEY)
    (snapshot,) = snapshots(volume, POD)
    good = snapshot.archive_path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.booleans())
    bad = good[:at] if cut else good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :]
    (target := tmp_path / "target").mkdir(exist_ok=True)
    try:
        snapshot.archive_path.write_bytes(bad)
        with pytest.raises(SnapshotError):
            restore(snapshot, target, key=KEY)
        assert list(target.iterdir()) == []
    finally:
        snapshot.archive_path.write_bytes(good)


def test_damage_is_found_also_where_the_digest_was_made_to_fit(pod: Pod) -> None:
    """Who can write the volume can write a manifest; without the key no piece opens."""
    made = pod.save()
    raw = bytearray(made.archive_path.read_bytes())
    raw[len(raw) // 2] ^= 1
    made.archive_path.write_bytes(raw)
    with opened(made, KEY) as file:
        middle = file.content_bytes // 2
        with pytest.raises(SnapshotError, match="does not open with its key"):
            file.read(middle, 1)


def test_paths_of_another_snapshot_are_not_taken(pod: Pod, tmp_path: Path) -> None:
    first, second = pod.save(), pod.save(incremental=False)
    listed = {one.id: one for one in snapshots(pod.volume, POD)}
    mixed = dataclasses.replace(listed[first.id], locked=listed[second.id].locked)
    with pytest.raises(SnapshotError, match="of another one"):
        restore(mixed, tmp_path, key=KEY)


@pytest.mark.skipif(not shutil.which("age"), reason="the age tool is not installed")
def test_the_age_tool_and_tar_unpack_it_by_hand(pod: Pod, tmp_path: Path) -> None:
    made = pod.save()
    (target := tmp_path / "target").mkdir()
    (tmp_path / "key").write_text(SECRET)
    by_hand = f"age -d -i {tmp_path}/key {made.archive_path} | zstd -dc | tar -x -p -C {target}"
    subprocess.run(["bash", "-ec", f"set -o pipefail; {by_hand}"], check=True)
    assert (target / "telltale-name").read_text() == "telltale content"
    notes = made.archive_path.with_name(f"{made.id}.txt.age")
    told = subprocess.run(["age", "-d", "-i", tmp_path / "key", notes], check=True, capture_output=True, text=True)
    assert f"age -d -i KEY_FILE {made.archive} | zstd -dc | tar -x" in told.stdout
    assert "telltale-deleted" in told.stdout


def test_a_request_never_carries_the_key(tmp_path: Path) -> None:
    asked = request(tmp_path, tmp_path, key=KEY)
    assert "key" not in asked.as_json()
    assert SaveRequest.from_json(asked.as_json()).key is None
    with pytest.raises(SnapshotError, match="unknown key"):
        SaveRequest.from_json({**asked.as_json(), "key": SECRET})


def loaded(**variables: str) -> Loaded:
    return load([Source(name="environment", variables={f"IDLEWATCH_{name}": text for name, text in variables.items()})])


def test_encryption_without_a_key_is_an_error_at_start() -> None:
    with pytest.raises(SettingsError, match="IDLEWATCH_ENCRYPT=true needs IDLEWATCH_SNAPSHOT_KEY"):
        loaded(ENCRYPT="true")
    loaded(ENCRYPT="true", SNAPSHOT_KEY=SECRET)
    with pytest.raises(SettingsError, match="no key of age") as told:
        loaded(SNAPSHOT_KEY=SECRET[:-2])
    assert SECRET[:-2] not in str(told.value)


def test_a_key_without_the_library_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    here = assembled(loaded(SNAPSHOT_KEY=SECRET, MODE="stop"))
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(SettingsError, match=r"IDLEWATCH_SNAPSHOT_KEY: .*\[crypto\]"):
        assembly.actions(here)


def test_a_shell_that_does_not_know_the_key_makes_no_plain_save(tmp_path: Path) -> None:
    daemon = Source(name="settings.json", variables={}, withheld=frozenset({"IDLEWATCH_SNAPSHOT_KEY"}))
    here = assembled(load([daemon]))
    asked = request(tmp_path, tmp_path)
    with pytest.raises(Refused, match="does not know the key"):
        with_key(here, asked)
    known = Source(name="environment", variables={"IDLEWATCH_SNAPSHOT_KEY": SECRET})
    assert with_key(assembled(load([known, daemon])), asked).key is not None

"""The folder of a recovery by hand: no name leads out of it, none is another's, and it is a bucket to a restore."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domicile.backup.errors import LiveNotEmptyError
from domicile.backup.folder import Folder, name_of, parts_of
from domicile.backup.stores.base import AlreadyExistsError, NotFoundError, StoreError
from tests.unit.world import World

HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "//",
    "..",
    ".",
    "a/../../b",
    "a//b",
    "dir/",
    "/lead",
    "a\x00b",
    "%2E%2E/x",
    "%",
    "%=",
    "a%=",
    "%unfinished-1",
    "~/x",
    "-rf",
    "a\n../b",
    "x" * 1024,
    "%" * 1024,
    "\U0001f600" * 256,
    "..%2F",
    "%%2E",
]
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300) | st.text(
    st.sampled_from("a./%=2E\n"), min_size=1, max_size=20
)


@settings(deadline=None)
@given(names)
def test_a_name_becomes_a_path_inside_and_comes_back(name: str) -> None:
    parts = parts_of(name)
    assert all(part not in {"", ".", ".."} and "/" not in part and "\0" not in part for part in parts)
    assert all(len(part.encode()) <= 253 for part in parts)
    assert name_of(tuple(parts)) == name


@settings(deadline=None)
@given(names, names)
@example("a", "%61")
@example("a/b", "a%2Fb")
@example("", "%")
def test_no_two_names_share_a_path(one: str, other: str) -> None:
    assert (parts_of(one) == parts_of(other)) == (one == other)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_inside(tmp_path: Path, name: str) -> None:
    folder = Folder(tmp_path / "in" / "side")
    folder.create(name, b"text")
    folder.write(name, iter((b"te", b"xt")), 4)
    assert folder.read(name, start=1, length=2) == b"ex"
    assert [info.name for info in folder.list()] == [name]
    outside = {path for path in tmp_path.rglob("*") if path.is_file()} - set((tmp_path / "in" / "side").rglob("*"))
    assert outside == set()
    folder.delete(name)
    folder.delete(name)
    assert list(folder.list()) == []


def test_a_plain_name_is_its_own_path(tmp_path: Path) -> None:
    Folder(tmp_path / "f").create("knowledge/Grüße 1.md", b"text")
    file = tmp_path / "f" / "knowledge" / "Grüße 1.md"
    assert file.read_bytes() == b"text"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("order", [["a", "a/b", "a/b/c"], ["a/b/c", "a/b", "a"], ["a/b", "a", "a/b/c"]])
def test_an_object_and_a_folder_of_one_name_live_side_by_side(tmp_path: Path, order: list[str]) -> None:
    folder = Folder(tmp_path / "f")
    for name in order:
        folder.create(name, name.encode())
        with pytest.raises(AlreadyExistsError):
            folder.create(name, b"again")
    assert {info.name: folder.read(info.name) for info in folder.list()} == {n: n.encode() for n in order}
    assert [info.name for info in folder.list("a/b")] == ["a/b", "a/b/c"]
    for name in order:
        folder.write(name, iter((b"new",)), 3)
    assert {folder.read(name) for name in order} == {b"new"}


def test_a_snapshot_is_restored_into_it_and_a_second_time(tmp_path: Path) -> None:
    world = World()
    for number, name in enumerate([*HOSTILE, "a", "a/b"]):
        world.write(name, b"%d" % number)
    world.write("empty", b"")
    world.replicate()
    folder = Folder(tmp_path / "f")
    assert world.restore(folder).skipped == 0  # type: ignore[arg-type]
    assert {info.name: folder.read(info.name) for info in folder.list()} == world.contents()
    assert world.restore(folder).skipped == len(world.contents())  # type: ignore[arg-type]
    folder.write("a", iter((b"else",)), 4)
    with pytest.raises(LiveNotEmptyError):
        world.restore(folder)  # type: ignore[arg-type]


def test_a_run_that_died_leaves_nothing_that_counts(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "f")

    def dying() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write("a", dying(), 8)
    (tmp_path / "f" / "%unfinished-0123").write_bytes(b"half")
    assert list(folder.list()) == []
    Folder(tmp_path / "f")
    assert list((tmp_path / "f").iterdir()) == []


def test_a_file_that_no_restore_made_and_a_folder_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(StoreError, match="chmod 700"):
        Folder(tmp_path / "open")
    folder = Folder(tmp_path / "f")
    (tmp_path / "f" / "100%.md").write_bytes(b"mine")
    with pytest.raises(StoreError, match="no object's"):
        list(folder.list())


def test_errors_of_the_disk_name_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path / "f")
    with pytest.raises(NotFoundError) as missing:
        folder.read("secret-name")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "secret-name")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StoreError, match="No space left") as told:
        folder.create("secret-name", b"x")
    assert "secret-name" not in f"{missing.value} {told.value}"

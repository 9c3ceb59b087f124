"""What commits refer to, read once each: roots, deltas and shards, all authenticated, and the entries in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domicile.backup import snapshot
from domicile.backup.manifest import Change, Delta, Entry, Root
from domicile.backup.records import Slot
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores.base import Bucket


class References:
    """Gathers over several commits. ``names`` are those of manifests, deltas and shards, without the tenant's."""

    def __init__(self, replica: Bucket, scope: Scope) -> None:
        self._replica = replica
        self._scope = scope
        self._deltas: dict[Delta, list[Change]] = {}
        self._hidden: dict[tuple[str, str], set[str]] = {}
        self.names: set[str] = set()

    def entries(self, commit: Slot) -> Iterator[Sequence[Entry]]:
        """Entries of a commit: at least those that no commit before it had. To be run to its end.

        A shard that was read for another commit is read again only where it holds something that did not count there,
        which is never where the commits are asked for from the oldest to the newest. Raises IntegrityError.
        """
        self.names.add(f"manifests/{commit.manifest}")
        root = snapshot.read_root(self._replica, self._scope, commit)
        self.names.update(f"deltas/{delta.name}" for delta in root.deltas)
        self.names.update(f"shards/{shard.name}" for shard in root.shards)
        found = _Remembering(self._replica, self._scope, root, self._deltas)
        anew: list[tuple[int, tuple[str, str], set[str]]] = []
        for index, shard in enumerate(root.shards):
            changes, known = found.changes_of(index), (shard.name, shard.digest)
            yield [change.entry for change in changes if change.entry]
            hidden = {change.name for change in changes}
            before = self._hidden.get(known)
            if before is None or not before <= hidden:
                anew.append((index, known, hidden if before is None else before & hidden))
        yield from found.each(index for index, _, _ in anew)
        self._hidden.update((known, hidden) for _, known, hidden in anew)
        self._deltas = {delta: self._deltas[delta] for delta in root.deltas if delta in self._deltas}


class _Remembering(Snapshot):
    """A snapshot that reads no delta which is in ``deltas``, and adds what it reads."""

    def __init__(self, replica: Bucket, scope: Scope, root: Root, deltas: dict[Delta, list[Change]]) -> None:
        super().__init__(replica, scope, root)
        self._known = deltas

    def delta(self, delta: Delta) -> list[Change]:
        """The changes of one delta. Raises IntegrityError."""
        if delta not in self._known:
            self._known[delta] = super().delta(delta)
        return self._known[delta]

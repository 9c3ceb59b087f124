"""What can be wrong with a tenant's replica. Messages name sites, sequence numbers and opaque ids, never an object."""

from __future__ import annotations


class BackupError(Exception):
    """Base of the errors below."""


class IntegrityError(BackupError):
    """Stored bytes are not what was written: damaged, truncated, swapped, or of another tenant."""


class WrongKeyError(BackupError):
    """The tenant key at hand is not the one that the data was sealed with."""


class RollbackError(BackupError):
    """The newest slot is older than one that is known to have been written, or has other content."""


class FencedError(BackupError):
    """Another site took the tenant over; this one must not commit any more."""


class ConcurrentRunError(BackupError):
    """Another run of the same site committed first; nothing is lost and the next run goes on from there."""


class NoSnapshotError(BackupError):
    """There is no commit to restore."""


class LiveNotEmptyError(BackupError):
    """The live bucket holds something that the snapshot does not, and that a restore would lose or mix in."""


class TooLargeError(BackupError):
    """More than the format can hold in one piece."""


class HeldError(BackupError):
    """A run would drop or change more of the last snapshot than one hour should; a person has to accept that."""

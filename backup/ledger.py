"""What a site writes down for itself about a tenant: numbered notes of which the newest counts.

``<folder>/<tenant>/<number>`` in the site's own control bucket is canonical JSON of at most a few megabytes, written
once; its ``mac`` covers all other fields, as in a slot. A note carries on whatever of the older ones is still needed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Any

from domicile.backup import canonical
from domicile.backup.errors import ConcurrentRunError, IntegrityError
from domicile.backup.sealing import FORMAT_VERSION, Sealer
from domicile.backup.stores.base import Bucket, create_once

_NUMBER = re.compile(r"\d{10}", re.ASCII)


class Ledger:
    """The notes of one kind about one tenant; ``checks`` are those of their fields, see ``canonical.fields``."""

    def __init__(
        self, control: Bucket, kind: str, tenant: str, sealer: Sealer, checks: dict[str, Callable[[Any], bool]]
    ) -> None:
        self._control = control
        self._kind = kind
        self._sealer = sealer
        self._folder = f"{kind}/{tenant}/"
        self._fixed = {
            "version": FORMAT_VERSION,
            "kind": kind,
            "tenant": tenant,
            "keyId": sealer.key_id,
            "keyCommitment": sealer.commitment,
        }
        self._checks = checks

    def newest(self) -> tuple[int, dict[str, Any]]:
        """The newest note and its number; 0 and nothing where there is none. Raises IntegrityError, WrongKeyError."""
        number = max(self._numbers(), default=0)
        if not number:
            return 0, {}
        what = f"note {number} under {self._folder} at site {self._control.site}"
        value = canonical.decode(self._control.read(self._name(number)), what)
        own: dict[str, Callable[[Any], bool]] = {field: lambda _: True for field in self._fixed}
        own |= {"number": lambda v: v == number, "keyId": canonical.text, "mac": canonical.hexadecimal(64)}
        canonical.fields(value, what, **own | {"keyCommitment": canonical.hexadecimal(64)} | self._checks)
        self._sealer.require(value["keyId"], value["keyCommitment"])
        unsigned = {field: value[field] for field in value if field != "mac"}
        fixed = {field: value[field] for field in self._fixed}
        if fixed != self._fixed or not hmac.compare_digest(value["mac"], self._mac(unsigned)):
            raise IntegrityError(
                f"{what} was changed, or written by somebody else: find out who writes there, and delete it"
            )
        return number, {field: value[field] for field in self._checks}

    def append(self, number: int, fields: dict[str, Any]) -> None:
        """Write note ``number``. Raises ConcurrentRunError where another one has that number, StoreError."""
        value = self._fixed | {"number": number} | fields
        data = canonical.encode(value | {"mac": self._mac(value)})
        if not create_once(self._control, self._name(number), data):
            raise ConcurrentRunError(f"another run wrote note {number} under {self._folder} first")

    def trim(self, keep: int) -> None:
        """Delete all but the newest ``keep`` notes."""
        for number in sorted(self._numbers())[:-keep]:
            self._control.delete(self._name(number))

    def _numbers(self) -> list[int]:
        names = (info.name.removeprefix(self._folder) for info in self._control.list(self._folder))
        return [int(name) for name in names if _NUMBER.fullmatch(name)]

    def _name(self, number: int) -> str:
        return f"{self._folder}{number:010d}"

    def _mac(self, value: dict[str, Any]) -> str:
        return self._sealer.mac(canonical.encode(value))

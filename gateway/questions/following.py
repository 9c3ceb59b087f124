"""The mounted config, followed while it changes; a broken new one changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from domicile.api.gateway import GatewayConfig

log = logging.getLogger(__name__)


class Followed:
    """The file ``gateway.json``."""

    def __init__(self, file: Path) -> None:
        """Raises OSError, and ValueError saying what is wrong with it."""
        self._file = file
        self._seen = self._stamp()
        self.config = load(file)

    def _stamp(self) -> tuple[int, int, int]:
        stat = self._file.stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def changed(self) -> bool:
        """Look again; whether there is a new config."""
        try:
            seen = self._stamp()
            if seen == self._seen:
                return False
            self._seen = seen
            config = load(self._file)
        except (OSError, ValueError) as error:
            log.error("the config stays as it was: %s", error)  # noqa: TRY400 - the message says all
            return False
        if (config.tenant_id, config.redis) != (self.config.tenant_id, self.config.redis):
            log.error("the config stays as it was: another tenant or another redis needs a new pod")
            return False
        changed, self.config = config != self.config, config
        return changed


def load(file: Path) -> GatewayConfig:
    """The config of a file. Raises OSError, and ValueError naming the fields that are wrong."""
    try:
        return GatewayConfig.model_validate_json(file.read_bytes())
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise ValueError(f"{file.name}: {wrong}") from None

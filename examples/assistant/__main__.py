"""Start the assistant: ``python3 -m assistant``. Settings come from the environment (settings.py)."""

from __future__ import annotations

import logging
import os
import sys

from aiohttp import web

from .server import make_app
from .settings import Settings, SettingsError

# Below the 30 s that Kubernetes gives a pod by default, so that a running answer can end.
SHUTDOWN_SECONDS = 20.0


def _log_to_stdout() -> None:
    # Libraries log URLs, and those hold object names: only this program's own lines are printed.
    logging.getLogger().addHandler(logging.NullHandler())
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("assistant")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> None:
    """Serve until SIGTERM, then finish running answers. Exits 2 where a setting is missing or wrong."""
    _log_to_stdout()
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(f"assistant: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    web.run_app(
        make_app(settings),
        host=settings.host,
        port=settings.port,
        shutdown_timeout=SHUTDOWN_SECONDS,
        access_log=None,
        print=None,
        # Where the guard cuts a client off, the work for it stops, and its turn is not written.
        handler_cancellation=True,
    )


main()

"""Start the provider: ``python3 -m provider``. PORT (8080), PROVIDER_HOST (0.0.0.0), PROVIDER_WORD_SECONDS (0)."""

from __future__ import annotations

import os

from aiohttp import web

from .server import make_app

web.run_app(
    make_app(float(os.environ.get("PROVIDER_WORD_SECONDS", "0"))),
    host=os.environ.get("PROVIDER_HOST", "0.0.0.0"),
    port=int(os.environ.get("PORT", "8080")),
    access_log=None,
    print=None,
)

"""Start the provider: ``python3 -m provider``. PORT (8080), PROVIDER_HOST (0.0.0.0), PROVIDER_WORD_SECONDS (0).

With TLS where there are PROVIDER_CERTIFICATE and PROVIDER_KEY, paths of PEM files.
"""

from __future__ import annotations

import os
import ssl

from aiohttp import web

from .server import make_app

context = None
if "PROVIDER_CERTIFICATE" in os.environ:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["PROVIDER_CERTIFICATE"], os.environ["PROVIDER_KEY"])
web.run_app(
    make_app(float(os.environ.get("PROVIDER_WORD_SECONDS", "0"))),
    host=os.environ.get("PROVIDER_HOST", "0.0.0.0"),
    port=int(os.environ.get("PORT", "8080")),
    ssl_context=context,
    access_log=None,
    print=None,
)

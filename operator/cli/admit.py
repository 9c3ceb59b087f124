"""``domicile admit``: the operator's account at a Keycloak that the chart runs, made at each install and upgrade."""

from __future__ import annotations

import argparse
import ssl
import sys
import time

import httpx

from domicile.cli import site
from domicile.cli.site import UsageError
from domicile.controllers.realm.admission import admit
from domicile.controllers.realm.server import Account, IdentityError, UnreachableError

_PAUSE_SECONDS = 2.0
_PATIENCE_SECONDS = 30.0


def run(args: argparse.Namespace) -> int:
    """Exit code 0 once the account is as it should be, 1 where Keycloak refuses or is silent, 2 for wrong usage."""
    return site.ended("admit", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    bootstrap = Account(client_id=args.bootstrap_id, client_secret=args.bootstrap.read_text().strip())
    operator = Account.model_validate_json(args.account.read_bytes())
    try:
        trusted = ssl.create_default_context(cafile=args.ca)
    except ssl.SSLError:
        raise UsageError(f"--ca {args.ca}: it holds no certificates") from None
    until = time.monotonic() + args.timeout
    with httpx.Client(base_url=args.url, verify=trusted, timeout=_PATIENCE_SECONDS) as web:
        while True:
            try:
                admit(web, bootstrap, operator, args.console)
            except UnreachableError as error:
                if time.monotonic() < until:
                    time.sleep(_PAUSE_SECONDS)
                    continue
                return _failed(error)
            except IdentityError as error:
                return _failed(error)
            print(f"admit: {operator.client_id} may create realms at {args.url}")
            return 0


def _failed(error: IdentityError) -> int:
    print(f"admit: {error}", file=sys.stderr)
    return 1

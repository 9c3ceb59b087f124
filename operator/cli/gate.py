"""``domicile gate``: the config of the gate before an identity server, written for the image that serves it."""

from __future__ import annotations

import argparse
from typing import Annotated

import yaml
from pydantic import Field

from domicile.api.common import Model
from domicile.cli import site
from domicile.cli.site import UsageError
from domicile.controllers.door.gate import Gate, render

_CONFIG = "httpd.conf"


class GateFile(Model):
    """What ``--file`` holds, as YAML or JSON; the options of the command mean the same."""

    host: Annotated[str, Field(description="What browsers see where people log in, with a port unless it is 443.")]
    admin_host: Annotated[str, Field(description="What browsers see of the administrators' port.")]
    upstream: Annotated[str, Field(description="Keycloak's own TLS port, as host:port.")]
    networks: Annotated[tuple[str, ...], Field(description="Networks of the administrators, such as 10.8.0.0/24.")]
    aliases: Annotated[tuple[str, ...], Field(description="Other names of the public port, for front doors.")] = ()


def run(args: argparse.Namespace) -> int:
    """Exit code 0 once it is written, 2 where something of it is wrong."""
    return site.ended("gate", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    asked = _asked(args)
    gate = Gate(asked.host, asked.admin_host, asked.upstream, asked.networks, asked.aliases)
    try:
        config = render(gate)
    except ValueError as error:
        raise UsageError(str(error)) from None
    args.into.mkdir(parents=True, exist_ok=True)
    (args.into / _CONFIG).write_text(config)
    print(f"gate: wrote {_CONFIG} to {args.into}")
    return 0


def _asked(args: argparse.Namespace) -> GateFile:
    given = {
        "host": args.host,
        "adminHost": args.admin_host,
        "upstream": args.upstream,
        "networks": args.network,
        "aliases": args.alias,
    }
    options = {name: value for name, value in given.items() if value}
    if args.file is None:
        return GateFile.model_validate(options)
    if options:
        raise UsageError("--file says all of it: give it alone, or the other options without it")
    try:
        return GateFile.model_validate(yaml.safe_load(args.file.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{args.file} is neither YAML nor JSON: {error}") from None

"""The ``domicile`` command and the kubectl plugin ``kubectl domicile``: one parser, a module a command.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused for residency, 4 fenced or not the holder, 5 held until a person
accepts the change.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

ETC = Path("/etc/domicile")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = parser().parse_args(argv)
    # Imported by need: the guard must not pay for the clouds' clients.
    match args.command:
        case "operator":
            from domicile import app

            _find_way_out()
            return app.main()
        case "lease-agent":
            from domicile.gateway import agent

            _find_way_out()
            return agent.main()
        case "guard":
            from domicile.gateway import guard

            return guard.main()
        case "gateway":
            from domicile.gateway.questions import process

            return process.main()
    _find_way_out()
    code: int = import_module(f"domicile.cli.{args.command}").run(args)
    return code


def _find_way_out() -> None:
    """Before the first client of a store is made. Imported by need, as the commands are."""
    if os.environ.get("DOMICILE_WAY_OUT"):
        from domicile import forwarding
        from domicile.backup.stores import way_out

        way_out.use(forwarding.start(os.environ), by_path=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog=_prog(), description="Keeps every AI-assistant tenant at home.")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("operator", help="run the operator (in its pod)")
    commands.add_parser("lease-agent", help="run the lease agent (in its pod)")
    commands.add_parser("guard", help="run the guard (in an assistant's pod)")
    commands.add_parser("gateway", help="run a tenant's gateway to model providers (in its pod)")
    _replicate(commands.add_parser("replicate", help="replicate tenants that this site holds"))
    _keys(commands.add_parser("keys", help="make a site's key pair; prove, rewrap and shred tenants' keys"))
    _failover(commands.add_parser("failover", help="take tenants over to a site, because their site is down"))
    snapshot = commands.add_parser("snapshot", help="replicate a tenant now")
    snapshot.add_argument("tenant")
    snapshot.add_argument("--timeout", type=float, default=300, help="seconds to wait (default 300)")
    snapshot.add_argument(
        "--accept-change", action="store_true", help="the large change for which replication was held is meant"
    )
    _snapshots(commands.add_parser("snapshots", help="list a tenant's snapshots"))
    _verify(commands.add_parser("verify", help="read and authenticate a tenant's snapshots"))
    _prune(commands.add_parser("prune", help="drop a tenant's old snapshots now; done every day by itself"))
    _diff(commands.add_parser("diff", help="what differs between two snapshots, or since one"))
    _restore(commands.add_parser("restore", help="restore a tenant's snapshot"))
    _sessions(commands.add_parser("sessions", help="list and end the sessions of a tenant's people"))
    _plan(commands.add_parser("plan", help="what tenants would become and who could talk to whom, without a cluster"))
    _gate(commands.add_parser("gate", help="write the config of the gate before an identity server"))
    _admit(
        commands.add_parser("admit", help="make the operator's account at a Keycloak, or bring it to what it should be")
    )
    return root


def _sessions(command: argparse.ArgumentParser) -> None:
    what = command.add_subparsers(required=True, dest="what", metavar="WHAT")
    listed = what.add_parser("list", help="who is logged in, as the zone's identity server says")
    end = what.add_parser("end", help="end all sessions now: everybody has to log in again; or one of them")
    end.add_argument("--session", metavar="ID", help="only this one, as listed")
    end.add_argument("--timeout", type=float, default=120, help="seconds to wait for the end of all (default 120)")
    for each in (listed, end):
        each.add_argument("tenant")
        each.add_argument(
            "--accounts",
            type=Path,
            default=Path(),
            help="folder of ZONE.json, an account at the identity server (clientId, clientSecret), and of ZONE.pem,"
            " its CA bundle, if it needs one (default: the current folder)",
        )
        each.add_argument(
            "--url", help="the identity server's base URL for administrators (default: the zone's adminUrl)"
        )
        each.add_argument("--certificate", type=Path, help="your certificate and its key (PEM), if its gate wants one")


def _plan(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-f",
        "--file",
        action="append",
        required=True,
        type=Path,
        help="YAML of tenants and their zones; may be repeated",
    )
    command.add_argument(
        "--against", action="append", default=[], type=Path, metavar="FILE", help="what there is now: show what changes"
    )
    command.add_argument("--site", help="where it would run (default: the tenant's home site)")
    command.add_argument("-o", "--output", choices=("text", "yaml"), default="text")


def _admit(command: argparse.ArgumentParser) -> None:
    command.add_argument("--url", required=True, help="Keycloak's own base URL")
    command.add_argument("--ca", type=Path, required=True, metavar="FILE", help="authorities of its certificate")
    command.add_argument("--bootstrap-id", required=True, metavar="ID", help="client id of its first administrator")
    command.add_argument("--bootstrap", type=Path, required=True, metavar="FILE", help="secret of that client")
    command.add_argument(
        "--account", type=Path, required=True, metavar="FILE", help="clientId and clientSecret of the operator"
    )
    command.add_argument("--console", metavar="URL", help="where administrators log in, as their browsers see it")
    command.add_argument("--timeout", type=float, default=600, help="seconds to wait for Keycloak (default 600)")


def _gate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--into", type=Path, required=True, metavar="DIR", help="folder for httpd.conf")
    command.add_argument("--file", type=Path, help="YAML or JSON of all that follows, in place of it")
    command.add_argument("--host", help="where people log in, as browsers see it, with a port unless it is 443")
    command.add_argument("--admin-host", metavar="HOST", help="where administrators do, as their browsers see it")
    command.add_argument("--upstream", metavar="HOST:PORT", help="Keycloak's own port, TLS")
    command.add_argument(
        "--network", action="append", default=[], metavar="CIDR", help="where administrators come from; may be repeated"
    )
    command.add_argument(
        "--alias", action="append", default=[], metavar="HOST", help="another name for front doors; may be repeated"
    )


def _keys(command: argparse.ArgumentParser) -> None:
    what = command.add_subparsers(required=True, dest="what", metavar="WHAT")
    generate = what.add_parser("generate", help="write NAME.public.json and NAME.private.json")
    generate.add_argument("name")
    generate.add_argument("--folder", type=Path, default=Path())
    prove = what.add_parser("prove", help="show now that this site opens tenants' keys; done every hour by itself")
    prove.add_argument("--tenant", metavar="ID", help="one tenant by id (default: all that have a wrap here)")
    rewrap = what.add_parser("rewrap", help="wrap tenants' keys with this site's present key and remove older wraps")
    which = rewrap.add_mutually_exclusive_group(required=True)
    which.add_argument("--tenant", metavar="ID", help="one tenant by id")
    which.add_argument("--all", action="store_true", help="all that have a wrap here")
    shred = what.add_parser("shred", help="destroy a tenant's keys, and with them all its data, for ever")
    shred.add_argument("--tenant", metavar="ID", required=True)
    shred.add_argument("--zone", metavar="NAME", help="the tenant's zone, where this cluster serves several")
    shred.add_argument("--yes-destroy", action="store_true", help="needed: there is no way back")
    for one in (prove, rewrap, shred):
        _files(one)


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument("--sites", type=Path, default=ETC / "sites" / "sites.json", help="site file")
    command.add_argument("--credentials", type=Path, default=ETC / "credentials", help="folder of store credentials")
    command.add_argument("--keys", type=Path, default=ETC / "keys", help="folder of the sites' keys")


def _replicate(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--due", action="store_true", help="the tenants whose minute of the hour this is")
    which.add_argument("--tenant", metavar="ID", help="one tenant by id")
    command.add_argument(
        "--site", metavar="NAME", help="only zones that this site serves (default: all of the site file)"
    )
    command.add_argument(
        "--share", type=_share, default=(0, 1), metavar="K/N", help="pod K (from 0) of a run's N (default 0/1)"
    )
    command.add_argument(
        "--accept-change", action="store_true", help="the large change for which the tenant's run was held is meant"
    )
    _files(command)


def _share(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not 0 <= int(index) < int(count):
        raise ValueError(text)
    return int(index), int(count)


def _stores(command: argparse.ArgumentParser) -> None:
    command.add_argument("--zone", metavar="NAME", help="the tenant's zone (default: the one whose key of it opens)")
    command.add_argument(
        "--replica", metavar="SITE", help="only snapshots that this site keeps (default: all that keep some)"
    )
    _files(command)


def _snapshots(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tenant", metavar="ID", required=True)
    command.add_argument("--dropped", action="store_true", help="those that retention dropped, too")
    _output(command)
    _stores(command)


def _verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tenant", metavar="ID", required=True)
    which = command.add_mutually_exclusive_group()
    which.add_argument("--seq", type=int, metavar="N", help="one snapshot by its number (default: the newest)")
    which.add_argument("--all", action="store_true", help="every snapshot that is kept")
    _stores(command)


def _prune(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tenant", metavar="ID", required=True)
    command.add_argument("--zone", metavar="NAME", help="the tenant's zone (default: the one whose key of it opens)")
    command.add_argument(
        "--give-up", type=int, action="append", default=[], metavar="N", help="drop this one, too; may be repeated"
    )
    command.add_argument("--dry-run", action="store_true", help="report only, delete nothing")
    _files(command)


def _diff(command: argparse.ArgumentParser) -> None:
    command.add_argument("old", type=int, metavar="SEQ", help="a snapshot by its number")
    command.add_argument("new", type=int, metavar="SEQ", nargs="?", help="a later one (default: the live bucket)")
    command.add_argument("--tenant", metavar="ID", required=True)
    command.add_argument("--names", action="store_true", help="names of objects, too; to a terminal only")
    _output(command)
    _stores(command)


def _restore(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="TENANT", help="an AssistantTenant: the operator restores it")
    which.add_argument("--tenant", metavar="ID", help="a tenant by id: this command restores it from the stores alone")
    snapshot = command.add_mutually_exclusive_group()
    snapshot.add_argument("--seq", type=int, metavar="N", help="a snapshot by its number (default: the newest)")
    snapshot.add_argument("--at", metavar="TIME", help="the newest snapshot cut at or before then (RFC 3339)")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--into", choices=["live", "beside"], help="the live bucket, or a fresh one beside it")
    where.add_argument("--beside", metavar="BUCKET", help="an empty bucket of this site (with --tenant)")
    where.add_argument("--to-folder", type=Path, metavar="DIR", help="a folder of this machine (with --tenant)")
    command.add_argument("--prefix", default="", help="only objects whose names start so (default: all)")
    command.add_argument(
        "--mode",
        choices=["fresh", "merge", "exact"],
        default="fresh",
        help="fresh: refuse where the live bucket holds anything that the snapshot has not; merge: overwrite what"
        " differs; exact: delete what the snapshot has not, too (default fresh)",
    )
    command.add_argument("--dry-run", action="store_true", help="count only, write nothing")
    command.add_argument("--folder-region", metavar="REGION", help="your word for where the folder lies")
    command.add_argument("--nobody-writes", action="store_true", help="your word that the live bucket is at rest")
    command.add_argument(
        "--while-serving", action="store_true", help="with a name and --mode merge: don't stop the tenant meanwhile"
    )
    command.add_argument("--requested-by", default="", metavar="ROLE", help="role or ticket, no person's name")
    command.add_argument("--no-wait", action="store_true", help="return once the Restore is created")
    command.add_argument("--timeout", type=float, default=3600, help="seconds to wait (default 3600)")
    _stores(command)


def _output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", "-o", choices=["table", "json"], default="table", help="default: table")


def _failover(command: argparse.ArgumentParser) -> None:
    command.add_argument("--zone", required=True)
    command.add_argument(
        "--to", required=True, metavar="SITE", help="site that takes over; its cluster must be the current one"
    )
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--tenant", action="append", metavar="NAME", help="may be repeated")
    which.add_argument("--all", action="store_true", help="every tenant of the zone")
    command.add_argument(
        "--source-is-down", required=True, metavar="REASON", help="how you know that it no longer serves"
    )
    command.add_argument(
        "--accept-loss", required=True, metavar="DURATION", help="oldest snapshot that is good enough: 90s, 15m, 2h"
    )
    command.add_argument("--requested-by", default="", metavar="ROLE", help="role or ticket, no person's name")
    command.add_argument("--dry-run", action="store_true", help="report only, write nothing")
    command.add_argument("--no-wait", action="store_true", help="return once the Failover is created")
    command.add_argument("--timeout", type=float, default=900, help="seconds to wait (default 900)")


def _prog() -> str:
    return "kubectl domicile" if Path(sys.argv[0]).name == "kubectl-domicile" else "domicile"


if __name__ == "__main__":
    sys.exit(main())

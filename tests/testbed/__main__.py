"""Command line of the testbed: real clouds on one machine, each a Kubernetes cluster with its own object store.

Needs root. Touches nothing of the machine but network namespaces, control groups and one link of its own, the user's
cache directory and /run/domicile-testbed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from tests.testbed.images import ALL
from tests.testbed.process import TestbedError
from tests.testbed.testbed import Testbed
from tests.testbed.topology import Topology


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description="Real clouds on one machine.")
    parser.add_argument("--name", default="default", help="instance of this checkout (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring everything up, or one site that was killed")
    up.add_argument("site", nargs="?")
    up.add_argument(
        "--topology", type=Path, help="JSON file of clusters; default: one site on each of two clouds in Frankfurt"
    )
    up.add_argument("--images", default=",".join(ALL), help="images for the nodes (default: %(default)s)")
    commands.add_parser("status", help="what runs, is cut and went outside")
    for name, text in (("cut", "drop every packet between two places"), ("heal", "undo a cut")):
        command = commands.add_parser(name, help=text, description="A place is a site, a cluster, store:SITE or host.")
        command.add_argument("a")
        command.add_argument("b")
    commands.add_parser("kill", help="SIGKILL a site's cluster and stores; disks stay").add_argument("site")
    commands.add_parser("down", help="remove everything")
    commands.add_parser("env", help="print shell variables: eval $(python -m tests.testbed env)")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "up":
        topology = Topology.from_wire(json.loads(arguments.topology.read_text())) if arguments.topology else None
        testbed = Testbed(topology, name=arguments.name, images=tuple(arguments.images.split(",")))
        if arguments.site:
            testbed.start(arguments.site)
        else:
            testbed.up()
        return
    testbed = Testbed(name=arguments.name)
    match arguments.command:
        case "status":
            print(testbed.status())
        case "cut":
            testbed.cut(arguments.a, arguments.b)
        case "heal":
            testbed.heal(arguments.a, arguments.b)
        case "kill":
            testbed.kill(arguments.site)
        case "down":
            testbed.down()
        case "env":
            for name, value in testbed.environment().items():
                print(f"export {name}={shlex.quote(value)}")


def main() -> None:
    """Run one command; errors are one message on stderr and exit code 1."""
    try:
        _run(_parser().parse_args())
    except (TestbedError, KeyError, TimeoutError, ValueError) as error:
        print(error.args[0] if error.args else error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

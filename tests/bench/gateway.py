"""The benchmark of the gateway: what personal data it finds, what it adds to a question, what it takes and holds.

    python -m tests.bench.gateway [--quick] [--loaded] [--misses] [--out FILE]

A corpus of made-up questions, half of which recognisers were tuned by; the other half has other templates, and names
that are in no list. Then questions that nobody has asked before, through a gateway as it runs in a pod, and straight to
the same provider, in turns. docs/privacy.md says what the figures mean. The last line holds them: recall and precision
of the held-out half, leaked_structured of both. ``--misses`` shows what was missed of the first half. Exit codes: 0
done, 1 something failed, 3 the machine is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.asking import asked
from tests.bench.corpus.questions import held_out_half, tuning_half
from tests.bench.recall import Counts, measured, ours, stock

_OUT = Path("bench/results/gateway.json")
_QUIET_LOAD = 0.5


def _show(name: str, counts: Counts) -> None:
    print(f"{name}: {sum(counts.there.values())} values, {counts.findings} findings, {counts.right} of them right")
    for kind in sorted({kind for kind, _ in counts.there}):
        shares = [
            f"{counts.recall(kind, german):.3f}" if counts.there[kind, german] else "-" for german in (True, False)
        ]
        print(f"  {kind:20} de {shares[0]:>6}  en {shares[1]:>6}")


def _found(misses: bool) -> dict[str, Any]:
    """What is found of the corpus."""
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    find = ours()
    tuned, held = measured(tuning_half(), find), measured(held_out_half(), find)
    plain = measured(held_out_half(), stock())
    for name, counts in (("tuning", tuned), ("held out", held), ("held out, stock Presidio", plain)):
        _show(name, counts)
    if misses:
        print(*(f"{kind} {text}" for kind, text in tuned.missed), sep="\n")
    return {
        "leaked_structured": tuned.leaked() + held.leaked(),
        "recall_de": held.recall(german=True),
        "recall_en": held.recall(german=False),
        "recall_names_unlisted": held.recall("PERSON"),
        "precision": held.right / held.findings,
        "stock_recall_de": plain.recall(german=True),
    }


def line(found: dict[str, Any]) -> str:
    """The closing line."""
    corpus, requests = found["corpus"], found["requests"]
    straight, through = requests["straight"], requests["through"]
    shares = ("recall_de", "recall_en", "recall_names_unlisted", "precision", "stock_recall_de")
    return (
        f"leaked_structured={corpus['leaked_structured']} {' '.join(f'{each}={corpus[each]:.3f}' for each in shares)}"
        f" added_p50_ms={through['p50'] - straight['p50']:.1f} added_p99_ms={through['p99'] - straight['p99']:.1f}"
        f" rps={max(each['rps'] for each in requests['busy']):.1f} rss_mib={requests['pss_mib']:.0f}"
    )


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gateway", description="What a gateway finds and costs."
    )
    parser.add_argument("--quick", action="store_true", help="100 questions and 5 s, kept out of bench/results")
    parser.add_argument("--loaded", action="store_true", help="measure on a busy machine, which marks the results")
    parser.add_argument("--misses", action="store_true", help="show what was missed of the half for tuning")
    parser.add_argument("--out", type=Path, help=f"where the results go (default: {_OUT})")
    arguments = parser.parse_args()
    pairs, clients, seconds = (100, (8,), 5.0) if arguments.quick else (1000, (4, 8, 16), 15.0)
    out = arguments.out or (Path("build/gateway-quick.json") if arguments.quick else _OUT)
    load = os.getloadavg()[0]
    if load > _QUIET_LOAD and not (arguments.loaded or arguments.quick):
        print(
            f"bench: the machine is busy (load {load:.2f}); stop what runs, or measure with --loaded", file=sys.stderr
        )
        return 3
    found: dict[str, Any] = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load": round(load, 2)},
        "loaded": arguments.loaded,
        "corpus": _found(arguments.misses),
    }
    print(f"bench: requests (load {load:.2f})", flush=True)
    texts = [question.text for question in tuning_half() + held_out_half()]
    with tempfile.TemporaryDirectory(prefix="gateway-") as scratch:
        Path(scratch).chmod(0o755)
        found["requests"] = asyncio.run(asked(Path(scratch), texts, pairs, clients, seconds))
    # Ours is in it, too: far more than the cores says that others worked while this measured.
    found["machine"]["load_after"] = round(os.getloadavg()[0], 2)
    for each in found["requests"]["busy"]:
        print(f"  {each['clients']:2.0f} clients: {each['rps']:.1f} requests/s, {each['p50']:.0f} ms at the median")
    found["line"] = line(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(found["line"])
    return 0


if __name__ == "__main__":
    sys.exit(main())

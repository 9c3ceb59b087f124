"""How much memory processes take."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.door_server import family


def pss_mib(pid: int) -> float:
    """Memory of a process and all below it, shared pages counted in parts (PSS)."""
    rollups = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in family(pid)]
    found = (re.search(r"^Pss: +([0-9]+) kB", text, re.MULTILINE) for text in rollups)
    return sum(int(pss[1]) for pss in found if pss) / 1024

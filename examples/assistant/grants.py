"""What its person has agreed to, as the guard says with each request (docs/assistant-contract.md)."""

from __future__ import annotations

from collections.abc import Iterable

HEADER = "Domicile-Consents"
RECORDING = "Recording"


def may_record(values: Iterable[str]) -> bool:
    """Whether the values of the header let a conversation be recorded; without one the tenant asks here alone."""
    lines = list(values)
    names = {grant.partition("=")[0].strip() for line in lines for grant in line.split(",")}
    return not lines or RECORDING in names

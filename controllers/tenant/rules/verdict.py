"""A judgement of one rule.

A rule speaks about one condition and is silent where it has nothing to object; the first rule of a condition that
speaks decides it. ``blocks`` means that nothing may be created or changed for the tenant until it is mended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant.view import TenantView

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Verdict:
    """One judgement, ready to become a condition."""

    type: ConditionType
    status: Status
    reason: str
    message: str
    blocks: bool = False


Rule = Callable[[TenantView], Verdict | None]


def no(kind: ConditionType, reason: str, message: str, *, blocks: bool = False) -> Verdict:
    """The condition doesn't hold."""
    return Verdict(kind, "False", reason, message, blocks)

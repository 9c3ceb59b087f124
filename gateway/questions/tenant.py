"""What a request is answered by: the config and the analyser of the moment, and what stays the same."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from domicile.api.gateway import Caller, GatewayConfig, Placeholders
from domicile.api.intents import Mode
from domicile.gateway.privacy.finding import Finder
from domicile.gateway.questions import placeholders
from domicile.gateway.questions.budgets import Budgets
from domicile.gateway.questions.hiding import Hider
from domicile.gateway.questions.intents import Intents
from domicile.gateway.questions.placeholders import canonical
from domicile.gateway.questions.question import Question
from domicile.gateway.questions.vault import Vault, subkey

log = logging.getLogger(__name__)


class Analyser(Finder, Protocol):
    """A finder that has a beginning and an end."""

    def ready(self) -> bool:
        """Whether it can be asked."""
        ...

    def close(self) -> None:
        """End it; what it is being asked then fails."""
        ...


class Lent:
    """An analyser, which is closed when it is given up and nobody needs it any more."""

    def __init__(self, analyser: Analyser) -> None:
        self.analyser = analyser
        self._users = 0
        self._over = False

    @contextmanager
    def used(self) -> Iterator[None]:
        """While a request needs it."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._close()

    def give_up(self) -> None:
        """No request comes any more."""
        self._over = True
        self._close()

    def _close(self) -> None:
        if self._over and not self._users:
            self.analyser.close()


def _intents(caller: Caller) -> Intents:
    try:
        return Intents(caller.intents)
    except ValueError as error:
        log.error("%s may be asked nothing: %s", caller.id, error)  # noqa: TRY400 - the message says all
        return Intents([])


class Phase(NamedTuple):
    """The config and its analyser, from one change to the next."""

    config: GatewayConfig
    lent: Lent
    callers: Mapping[str, Intents | None]
    """Who may ask, by SPIFFE ID, and what; None: anything."""

    @classmethod
    def of(cls, config: GatewayConfig, lent: Lent) -> Phase:
        """By a config. Of whom no intents can be followed, nothing may be asked."""
        return cls(config, lent, {c.id: _intents(c) if c.mode is Mode.STRUCTURED else None for c in config.callers})


class Conversation:
    """The conversation of one request: its placeholders, and the vault where the client has named it."""

    def __init__(self, phase: Phase, key: bytes, vault: Vault, named: str | None, wanted: Placeholders) -> None:
        """``key``: the tenant's key for placeholders."""
        privacy = phase.config.privacy
        reversible = wanted is Placeholders.REVERSIBLE
        self._placeholders = placeholders.Placeholders(key, named or secrets.token_urlsafe(24), reversible=reversible)
        self.question = Question(phase.lent.analyser, privacy, self._placeholders)
        self._vault = vault if named and reversible else None
        self._name = named or ""
        self._seconds = privacy.vault_seconds

    async def anonymised(self, texts: Sequence[str]) -> list[str]:
        """The texts with placeholders: for what is found, and for values of the conversation that stand in others.

        Raises RefusedError.
        """
        made = await self.question.texts(texts)
        earlier = {value: placeholder for placeholder, value in (await self.values()).items()}
        hider = Hider(earlier | self._placeholders.hidden)
        return [hider.text(text, self._placeholders.split) for text in made]

    async def values(self) -> dict[str, str]:
        """The values of all placeholders in the question, which are kept from now on. Raises RefusedError."""
        made, earlier = self._placeholders.made, self.question.earlier
        if self._vault is None or not (made or earlier):
            return made
        await self._vault.keep(self._name, made, self._seconds)
        return {**await self._vault.fetch(self._name, earlier - made.keys()), **made}

    async def restored(self, texts: Sequence[str]) -> dict[str, str]:
        """The values of what texts have placeholders for. Raises RefusedError."""
        asked = {canonical(part) for text in texts for part, ours in self._placeholders.split(text) if ours}
        return await self._vault.fetch(self._name, asked) if self._vault is not None else {}


class Tenant:
    """The tenant whose gateway this is."""

    def __init__(self, phase: Phase, key: bytes, vault: Callable[[bytes], Vault], budgets: Budgets) -> None:
        """``key``: 32 bytes of the tenant's; ``vault``: one by its own key of that."""
        self.phase = phase
        self.budgets = budgets
        self.vault = vault(subkey(key, "vault"))
        self._key = subkey(key, "placeholders")

    def change(self, phase: Phase) -> None:
        """Answer requests by another config from now on, and by another analyser, if it has one."""
        self.phase, old = phase, self.phase
        if old.lent is not phase.lent:
            old.lent.give_up()

    def close(self) -> None:
        """Answer none any more."""
        self.phase.lent.give_up()

    def conversation(self, phase: Phase, named: str | None, wanted: Placeholders | None = None) -> Conversation:
        """For one request; ``wanted``: which placeholders, else those of the config."""
        return Conversation(phase, self._key, self.vault, named, wanted or phase.config.privacy.placeholders)

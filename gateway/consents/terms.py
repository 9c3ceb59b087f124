"""What counts: the tenant's notice and purposes, held against what somebody has said. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from domicile.api.consent import EXTERNAL, Consent, Purpose
from domicile.gateway.consents import notice
from domicile.gateway.consents.notice import LANGUAGES, Shown
from domicile.gateway.consents.refusal import RefusedError
from domicile.gateway.consents.state import Accepted, Decided, State


class Terms:
    """The notice and the purposes of one tenant."""

    def __init__(self, consent: Consent) -> None:
        self._consent = consent

    @property
    def minimum_age(self) -> int | None:
        """Years that whoever accepts has to declare."""
        return self._consent.notice.minimum_age

    @property
    def purposes(self) -> list[Purpose]:
        """What may be agreed to, or counts by an external basis."""
        return self._consent.purposes

    def notice(self, language: str) -> Shown:
        """What is accepted before the first question."""
        return notice.of_notice(self._consent.notice, language)

    def asked(self, purpose: Purpose, language: str) -> Shown | None:
        """What is agreed to; None where an external basis decides."""
        if purpose.texts is None or purpose.version is None:
            return None
        return notice.of_purpose(purpose.version, purpose.texts, language)

    def in_force(self, state: State) -> bool:
        """Whether the notice that counts now was accepted, with the age that it asks for."""
        accepted = state.accepted
        if accepted is None or accepted.language not in LANGUAGES:
            return False
        shown = self.notice(accepted.language)
        old_enough = self.minimum_age is None or (accepted.age is not None and accepted.age >= self.minimum_age)
        return old_enough and (accepted.version, accepted.digest) == (shown.version, shown.digest)

    def granted(self, purpose: Purpose, state: State, today: date) -> str | None:
        """The version that was agreed to and counts now, or ``external``; None without either."""
        if purpose.basis is not None:
            return EXTERNAL if purpose.basis.counts(today) else None
        said = state.decided.get(purpose.name)
        if said is None or not said.granted or said.language not in LANGUAGES:
            return None
        shown = self.asked(purpose, said.language)
        counts = shown is not None and (said.version, said.digest) == (shown.version, shown.digest)
        return said.version if counts else None

    def header(self, state: State, today: date) -> str:
        """What an assistant is told with each request, such as ``Recording=2, SMS=external``."""
        found = ((p.name, self.granted(p, state, today)) for p in self.purposes)
        return ", ".join(f"{name}={version}" for name, version in found if version is not None)

    def accept(self, state: State, version: str, language: str, *, of_age: bool, time: str) -> State:
        """The notice is accepted. Raises RefusedError where it is another one, or the age is not declared."""
        shown = self.notice(language)
        if version != shown.version:
            raise RefusedError(409, "NoticeChanged", f"The notice is now version {shown.version}. Read it once more.")
        if self.minimum_age is not None and not of_age:
            raise RefusedError(403, "AgeRequired", f"This is for people of {self.minimum_age} years or more.")
        if self.in_force(state):
            return state
        accepted = Accepted(shown.version, shown.language, shown.digest, time, self.minimum_age)
        return replace(state, accepted=accepted)

    def decide(
        self, state: State, purpose: str, version: str | None, language: str, *, granted: bool, time: str
    ) -> State:
        """A purpose is agreed to, or the agreement is withdrawn. Raises RefusedError where that can't be."""
        said = state.decided.get(purpose)
        if not granted and said is not None:
            return _with(state, purpose, replace(said, granted=False, time=time)) if said.granted else state
        known = next((p for p in self.purposes if p.name == purpose), None)
        if known is None:
            raise RefusedError(400, "UnknownPurpose", "Nobody is asked for this purpose here.")
        shown = self.asked(known, language)
        if shown is None:
            raise RefusedError(409, "ExternalBasis", "This rests on a basis outside; object to it where that one is.")
        if not granted:
            return state
        if not self.in_force(state):
            raise RefusedError(403, "NoticeRequired", "Accept the notice first.")
        if version != shown.version:
            raise RefusedError(409, "TextChanged", f"The text is now version {shown.version}. Read it once more.")
        if said is not None and (said.granted, said.version, said.digest) == (True, shown.version, shown.digest):
            return state
        return _with(state, purpose, Decided(True, shown.version, shown.language, shown.digest, time))


def _with(state: State, purpose: str, said: Decided) -> State:
    return replace(state, decided={**state.decided, purpose: said})

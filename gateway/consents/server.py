"""Notice and consents as a guard serves them: who may ask, what an assistant is told, and the pages for people.

GET, POST /domicile/notice, /domicile/consents                    as a page, or as JSON
GET, POST /domicile/public/notice, /domicile/public/consents      the same, for who has not logged in
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from domicile.api.consent import EXTERNAL, Purpose
from domicile.api.guard import GuardConsents
from domicile.gateway.consents import intake, notice, pages, person
from domicile.gateway.consents.person import Asker
from domicile.gateway.consents.records import Change, Records, now, opened
from domicile.gateway.consents.refusal import RefusedError
from domicile.gateway.consents.state import State
from domicile.gateway.consents.terms import Terms
from domicile.gateway.holder import Holder, Keeper, LeaseEndedError
from domicile.gateway.proxy import answer, framing_fault

log = logging.getLogger(__name__)

_PAGE = re.compile(r"/domicile/(public/)?(notice|consents)", re.ASCII)
_FOLLOWING = re.compile(r"[!-~]{0,2048}", re.ASCII)


class TermsFile:
    """The file that the operator makes, read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError where the file can't be used."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._fault = ""
        try:
            self.first = self._parsed()
        except (OSError, ValidationError) as error:
            raise ValueError(f"{path} can't be used ({_why(error)})") from None
        self._terms = Terms(self.first.consent)

    def read(self) -> Terms:
        """The newest terms that could be read."""
        fault = ""
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return self._terms
            self._terms = Terms(self._parsed().consent)
            self._seen = seen
        except (OSError, ValidationError) as error:
            fault = _why(error)
        if fault and fault != self._fault:
            log.error("%s can't be used (%s); what it said before goes on counting", self._path, fault)
        self._fault = fault
        return self._terms

    def _parsed(self) -> GuardConsents:
        return GuardConsents.model_validate_json(self._path.read_bytes())


def _why(error: OSError | ValidationError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else f"{error.error_count()} faults"


def today() -> date:
    """The present day (UTC)."""
    return datetime.now(UTC).date()


class Consents:
    """Lets to the assistant who has accepted the notice, and says what they have agreed to."""

    def __init__(
        self,
        terms: Callable[[], Terms],
        records: Records,
        asker: Asker,
        holder: Holder,
        keeper: Keeper,
        day: Callable[[], date] = today,
    ) -> None:
        """``asker`` tells whose a request is; ``day`` is the present one (UTC)."""
        self._terms = terms
        self._records = records
        self._asker = asker
        self._holder = holder
        self._keeper = keeper
        self._day = day

    def close(self) -> None:
        """Wait for no store any more."""
        self._records.close()

    async def admit(self, request: web.BaseRequest) -> str | web.Response:
        """What the assistant is told of this request's person, or why it gets no such request."""
        if self._holder.term() is None:
            return self._closed()
        if (fault := framing_fault(request)) is not None:
            return answer(400, "BadRequest", fault, close=True)
        terms = self._terms()
        try:
            who = self._asker.person(request)
            state = await self._accepting(terms, who) if who else State()
        except RefusedError as error:
            return self._refused(error)
        if terms.in_force(state):
            return terms.header(state, self._day())
        if request.method in {"GET", "HEAD"} and _for_people(request):
            return self._notice_page(request, terms, 403, request.raw_path.lstrip("/"))
        language = _language(request)
        told = {
            "reason": "NoticeRequired",
            "message": "Accept the notice first: open the assistant anew, or its page domicile/notice.",
            "notice": _root(request) + self._place(request) + "notice",
            "version": terms.notice(language).version,
        }
        return _json(told, 403, close=True)

    async def _accepting(self, terms: Terms, who: str) -> State:
        known = self._records.known(who)
        # Who has just accepted at another replica is not asked again.
        return known if known is not None and terms.in_force(known) else await self._records.read(who)

    async def page(self, request: web.BaseRequest) -> web.Response | None:
        """The answer where the path is that of a page of ours, else None."""
        found = _PAGE.fullmatch(request.raw_path.partition("?")[0])
        if found is None:
            return None
        if request.method not in {"GET", "HEAD", "POST"}:
            return answer(405, "MethodNotAllowed", "Only GET, HEAD and POST are understood here.", close=True)
        if self._holder.term() is None:
            return self._closed()
        if (fault := framing_fault(request)) is not None:
            return answer(400, "BadRequest", fault, close=True)
        try:
            match request.method, found[2]:
                case "POST", "notice":
                    return await self._accept(request)
                case "POST", _:
                    return await self._decide(request)
                case _, "notice":
                    return await self._show_notice(request)
                case _:
                    return await self._show_consents(request)
        except RefusedError as error:
            return self._refused(error)
        except LeaseEndedError:
            return self._closed()

    async def _state(self, request: web.BaseRequest) -> State:
        who = self._asker.person(request)
        return await self._records.read(who) if who else State()

    async def _show_notice(self, request: web.BaseRequest) -> web.Response:
        terms = self._terms()
        if _for_people(request):
            return self._notice_page(request, terms, 200, "")
        state = await self._state(request)
        shown = terms.notice(_language(request))
        body = {"version": shown.version, "language": shown.language, "text": shown.text}
        return _json(body | {"minimumAge": terms.minimum_age, "accepted": terms.in_force(state)})

    async def _show_consents(self, request: web.BaseRequest) -> web.Response:
        state = await self._state(request)
        if _for_people(request):
            return self._consents_page(request, state)
        return _json(self._told(state, _language(request)))

    async def _accept(self, request: web.BaseRequest) -> web.Response:
        sent = await intake.fields(request)
        version, language = intake.text(sent, "version") or "", _chosen(request, intake.text(sent, "language"))
        of_age = intake.switch(sent, "ofAge") is True
        following = intake.text(sent, "next") or ""
        if not _FOLLOWING.fullmatch(following):
            raise RefusedError(400, "BadRequest", "next must be a path.")
        terms = self._terms()
        is_form = request.content_type == intake.FORM
        who, token = self._asker.person(request), ""
        if who is None:
            person.cookie_path(request)
            token = person.new_token()
            who = self._asker.of_token(token)
        try:
            state = await self._write(
                who, lambda before: terms.accept(before, version, language, of_age=of_age, time=now())
            )
        except RefusedError as error:
            if not is_form or error.status == 503:
                raise
            return self._notice_page(request, terms, error.status, following, error.message)
        if is_form:
            # What follows "../" is of this host, whatever it is.
            response = web.Response(status=303, headers={**pages.HEADERS, "Location": _root(request) + following})
        else:
            response = _json({"version": version, "accepted": terms.in_force(state)})
        if token:
            person.set_cookie(request, response, token)
        return response

    async def _decide(self, request: web.BaseRequest) -> web.Response:
        sent = await intake.fields(request)
        purpose, granted = intake.text(sent, "purpose"), intake.switch(sent, "granted")
        version, language = intake.text(sent, "version"), _chosen(request, intake.text(sent, "language"))
        if purpose is None or granted is None:
            raise RefusedError(400, "BadRequest", "Send purpose and granted, and to agree the version of the text.")
        terms = self._terms()

        def change(before: State) -> State:
            return terms.decide(before, purpose, version, language, granted=granted, time=now())

        who = self._asker.person(request)
        is_form = request.content_type == intake.FORM
        try:
            state = await self._write(who, change) if who else change(State())
        except RefusedError as error:
            if not is_form or error.status == 503:
                raise
            return self._consents_page(request, await self._state(request), error.status, error.message)
        if is_form:
            return web.Response(status=303, headers={**pages.HEADERS, "Location": "consents"})
        return _json(self._told(state, language))

    async def _write(self, who: str, change: Change) -> State:
        """Raises RefusedError, LeaseEndedError."""
        if (term := self._holder.term()) is None:
            raise LeaseEndedError
        async with self._keeper.during(term):
            state = await self._records.write(who, change, lambda: self._holder.require(term))
        self._holder.require(term)
        return state

    def _told(self, state: State, language: str) -> dict[str, Any]:
        terms, day = self._terms(), self._day()
        return {
            "accepted": terms.in_force(state),
            "purposes": [
                {
                    "name": purpose.name,
                    "granted": terms.granted(purpose, state, day) is not None,
                    "version": shown.version if shown else EXTERNAL,
                    "text": shown.text if shown else None,
                }
                for purpose in terms.purposes
                for shown in [terms.asked(purpose, language)]
            ],
        }

    def _notice_page(
        self, request: web.BaseRequest, terms: Terms, status: int, following: str, fault: str = ""
    ) -> web.Response:
        shown = terms.notice(_language(request))
        own = _root(request) + self._place(request)
        following = following if _FOLLOWING.fullmatch(following) else ""
        page = pages.notice(shown, terms.minimum_age, own + "notice", own + "consents", following, fault)
        return _html(page, status)

    def _consents_page(
        self, request: web.BaseRequest, state: State, status: int = 200, fault: str = ""
    ) -> web.Response:
        terms, language, day = self._terms(), _language(request), self._day()
        offers = [self._offer(terms, purpose, state, language, day) for purpose in terms.purposes]
        return _html(pages.consents(offers, language, "consents", _root(request), fault), status)

    @staticmethod
    def _offer(terms: Terms, purpose: Purpose, state: State, language: str, day: date) -> pages.Offer:
        basis = purpose.basis.statement if purpose.basis and purpose.basis.counts(day) else ""
        said = state.decided.get(purpose.name)
        agreed = said is not None and said.granted
        shown = terms.asked(purpose, language)
        return pages.Offer(purpose.name, shown, basis, terms.granted(purpose, state, day), agreed)

    def _place(self, request: web.BaseRequest) -> str:
        """Where the pages are for whoever asks: the door lets nobody without a login to the others."""
        return "domicile/public/" if self._asker.identified and not self._asker.logged_in(request) else "domicile/"

    def _closed(self) -> web.Response:
        return answer(503, self._holder.refusal.reason, self._holder.refusal.message, close=True)

    @staticmethod
    def _refused(error: RefusedError) -> web.Response:
        return answer(error.status, error.reason, error.message, close=True)


def make(path: Path, credentials: Path, asker: Asker, holder: Holder, keeper: Keeper) -> Consents:
    """What a guard needs. Raises ValueError where the file can't be used."""
    file = TermsFile(path)
    records = Records(opened(file.first.site, file.first.bucket, credentials))
    return Consents(file.read, records, asker, holder, keeper)


def _for_people(request: web.BaseRequest) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _language(request: web.BaseRequest) -> str:
    return notice.language_of(request.headers.get("Accept-Language", ""))


def _chosen(request: web.BaseRequest, sent: str | None) -> str:
    """The language of the text that somebody read."""
    if sent is not None and sent not in notice.LANGUAGES:
        raise RefusedError(400, "BadRequest", f"language must be one of {', '.join(notice.LANGUAGES)}.")
    return sent or _language(request)


def _root(request: web.BaseRequest) -> str:
    """The assistant's own root, as seen from the path that was asked for."""
    return "../" * (request.raw_path.partition("?")[0].count("/") - 1) or "./"


def _html(page: str, status: int) -> web.Response:
    response = web.Response(text=page, status=status, content_type="text/html", charset="utf-8", headers=pages.HEADERS)
    if status >= 400:
        response.force_close()
    return response


def _json(body: dict[str, Any], status: int = 200, *, close: bool = False) -> web.Response:
    headers = {name: pages.HEADERS[name] for name in ("Cache-Control", "Vary", "Server", "X-Content-Type-Options")}
    response = web.json_response(body, status=status, headers=headers)
    if close:
        response.force_close()
    return response

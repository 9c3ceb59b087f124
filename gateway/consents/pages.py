"""The guard's pages as HTML, in German and English: no script, nothing from elsewhere, links relative."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from domicile.gateway.consents.notice import Shown

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;"
    "background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}"
    "button{font:inherit;padding:.5rem 1rem;border:1px solid #1a1a1a;border-radius:.3rem;background:#1a1a1a;color:#fff}"
    "button.no{background:#fff;color:#1a1a1a}label{display:block;margin:1rem 0}.fault{color:#a40000}"
)
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With no-referrer browsers would not say where a form comes from.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, Accept-Language",
    "Server": "domicile",
}
_WORDS = {
    "de": {
        "notice": "Bevor Sie beginnen",
        "age": "Ich bin mindestens {} Jahre alt.",
        "accept": "Ich habe das gelesen und bin einverstanden",
        "back": "Zum Assistenten",
        "consents": "Einwilligungen",
        "open": "Jede Einwilligung ist freiwillig, einzeln, und jederzeit hier zu widerrufen.",
        "none": "Hier wird nach keiner Einwilligung gefragt.",
        "grant": "Ich willige ein",
        "withdraw": "Einwilligung widerrufen",
        "granted": "Sie haben eingewilligt (Fassung {}).",
        "refused": "Sie haben nicht eingewilligt.",
        "outdated": "Der Text hat sich geändert: Ihre frühere Einwilligung gilt nicht mehr.",
        "basis": "Das gilt ohne Ihre Einwilligung, aus diesem Grund: {}",
        "ended": "Der Grund, aus dem das galt, ist weggefallen: Es geschieht nicht.",
        "Recording": "Aufzeichnung von Gesprächen",
        "CallBack": "Rückruf",
        "SMS": "Nachrichten per SMS",
        "Outreach": "Kontakt, um den Sie nicht gebeten haben",
        "Training": "Verwendung zum Training",
    },
    "en": {
        "notice": "Before you begin",
        "age": "I am at least {} years old.",
        "accept": "I have read this and agree",
        "back": "To the assistant",
        "consents": "Consents",
        "open": "Each consent is voluntary, stands by itself, and can be withdrawn here at any time.",
        "none": "You are not asked for any consent here.",
        "grant": "I agree",
        "withdraw": "Withdraw",
        "granted": "You have agreed (version {}).",
        "refused": "You have not agreed.",
        "outdated": "The text has changed: your earlier consent no longer counts.",
        "basis": "This holds without your consent, for this reason: {}",
        "ended": "The reason for which this held is gone: it is not done.",
        "Recording": "Recording of conversations",
        "CallBack": "Call-back",
        "SMS": "Text messages",
        "Outreach": "Contact that you have not asked for",
        "Training": "Use for training",
    },
}


class Offer(NamedTuple):
    """One purpose as somebody sees it.

    ``shown`` is what is asked, or None with a ``basis``, which is "" once it has ended. ``granted``: the version that
    counts. ``said``: they agreed once, perhaps to another text.
    """

    name: str
    shown: Shown | None
    basis: str
    granted: str | None
    said: bool


def notice(shown: Shown, age: int | None, action: str, consents: str, following: str, fault: str = "") -> str:
    """The notice, with a form that accepts it; ``following`` is where to go then, below the assistant's root."""
    words = _WORDS[shown.language]
    gate = "" if age is None else _checkbox(words["age"].format(age))
    form = _form(
        action,
        {"version": shown.version, "language": shown.language, "next": following},
        f"{gate}<button>{escape(words['accept'])}</button>",
    )
    body = f"{_paragraphs(shown.text)}{form}<p>{_link(consents, words['consents'])}</p>"
    return _page(shown.language, words["notice"], body, fault)


def consents(offers: Iterable[Offer], language: str, action: str, root: str, fault: str = "") -> str:
    """All purposes, each with its own form."""
    words = _WORDS[language]
    sections = "".join(_section(offer, language, action) for offer in offers)
    told = f"<p>{escape(words['open'] if sections else words['none'])}</p>"
    return _page(language, words["consents"], f"{told}{sections}<p>{_link(root, words['back'])}</p>", fault)


def _section(offer: Offer, language: str, action: str) -> str:
    words = _WORDS[language]
    said = f"<h2>{escape(words[offer.name])}</h2>"
    withdraw = {"purpose": offer.name, "granted": "false"}
    if offer.shown is None:
        told = words["basis"].format(offer.basis) if offer.basis else words["ended"]
        return f"<section>{said}<p>{escape(told)}</p></section>"
    said += _paragraphs(offer.shown.text)
    if offer.granted is not None:
        told, fields, button = words["granted"].format(offer.granted), withdraw, _button(words["withdraw"], "no")
    else:
        told = words["outdated" if offer.said else "refused"]
        fields = {
            "purpose": offer.name,
            "granted": "true",
            "version": offer.shown.version,
            "language": offer.shown.language,
        }
        button = _button(words["grant"])
    return f"<section>{said}<p><strong>{escape(told)}</strong></p>{_form(action, fields, button)}</section>"


def _button(label: str, kind: str = "yes") -> str:
    return f'<button class="{kind}">{escape(label)}</button>'


def _checkbox(label: str) -> str:
    return f'<label><input type="checkbox" name="ofAge" value="true" required> {escape(label)}</label>'


def _form(action: str, fields: dict[str, str], content: str) -> str:
    hidden = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items())
    return f'<form method="post" action="{escape(action)}">{hidden}{content}</form>'


def _link(target: str, label: str) -> str:
    return f'<a href="{escape(target)}">{escape(label)}</a>'


def _paragraphs(text: str) -> str:
    parts = (part.strip() for part in text.split("\n\n"))
    return "".join(f"<p>{escape(part).replace(chr(10), '<br>')}</p>" for part in parts if part)


def _page(language: str, title: str, body: str, fault: str) -> str:
    told = f'<p class="fault" role="alert">{escape(fault)}</p>' if fault else ""
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{told}{body}</main></body></html>"
    )

"""What of a web server's error log may be kept: codes and the request's id, never its words, which quote requests.

Lines come as ``door|MODULE|LEVEL|REQUEST|TEXT`` (httpd's ErrorLogFormat); any other line is of no known shape.
"""

from __future__ import annotations

import re

# httpd's own numbers, mod_qos' numbers, the functions of mod_auth_openidc, the ids of ModSecurity's rules.
_CODES = re.compile(r"\b(?:AH[0-9]{5}|mod_qos\([0-9]{3}\)|oidc_[a-z_]{1,64})(?![a-zA-Z0-9])", re.ASCII)
_RULE = re.compile(r'\[id "([0-9]{1,9})"\]', re.ASCII)
_NAME = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)
_REQUEST = re.compile(r"[A-Za-z0-9@_-]{1,40}", re.ASCII)


def kept(line: str) -> dict[str, str]:
    """The fields of a line that are fit for a log: level, module, code or rule, and the request's id."""
    parts = line.split("|", 4)
    if len(parts) != 5 or parts[0] != "door":
        return {"level": "unknown"} | _codes(line)
    _, module, level, request, text = parts
    fields = {"level": level if _NAME.fullmatch(level) else "unknown"}
    if _NAME.fullmatch(module):
        fields["module"] = module
    if request != "-" and _REQUEST.fullmatch(request):
        fields["request"] = request
    return fields | _codes(text)


def _codes(text: str) -> dict[str, str]:
    rule = _RULE.search(text) if text.startswith("ModSecurity:") or "ModSecurity:" in text[:64] else None
    # Codes stand at the beginning; further on the text may be a client's.
    code = _CODES.match(text.removeprefix("[client] "))
    return ({"rule": rule[1]} if rule else {}) | ({"code": code[0]} if code else {})

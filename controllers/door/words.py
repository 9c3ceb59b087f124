"""The one way by which a text gets into a config of Apache httpd or of redis.

httpd expands ``${NAME}``, joins lines that end with a backslash and lets a quote end a word (httpd 2.4, "Configuration
Files"); ``%{...}`` means something to headers and rules, and ``exec:`` to secrets. None of them can be written with the
characters that are let through, so nothing needs escaping.
"""

from __future__ import annotations

import ipaddress
import re

_WORD = re.compile(r"[A-Za-z0-9._~:/?&=,+@\[\]-]{1,1024}", re.ASCII)
_CLAIM = re.compile(r"[A-Za-z0-9_]{1,64}(?:[.][A-Za-z0-9_]{1,64})*:[A-Za-z0-9._~:/?&=,+@() -]{1,256}", re.ASCII)
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)
_URL = re.compile(r"[A-Za-z0-9._~:/%-]{1,512}", re.ASCII)
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::([0-9]{1,5}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_ADDRESS = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})", re.ASCII)


def word(text: str, what: str) -> str:
    """``text``, which is one word of a config. Raises ValueError, naming ``what``, where it could be more."""
    if not _WORD.fullmatch(text):
        raise ValueError(f"{what} must consist of 1 to 1024 letters, digits and . _ ~ : / ? & = , + @ [ ] - only")
    return text


def quoted(text: str, what: str) -> str:
    """``text`` as one word of a config, in quotes. Raises ValueError, naming ``what``, where it could be more."""
    return f'"{word(text, what)}"'


def quoted_claim(claim: str, value: str, what: str) -> str:
    """A claim with exactly one text as its value, as one word, in quotes. Raises ValueError, naming ``what``.

    By a pattern: mod_auth_openidc 2.4.12 compares plain values without regard to white space, and takes the number 0
    for every text that doesn't begin with a digit.
    """
    if not _CLAIM.fullmatch(f"{claim}:{value}"):
        raise ValueError(
            f"{what} must be a claim and a value of 1 to 256 letters, digits, spaces and . _ ~ : / ? & = , + @ ( ) -"
        )
    exactly = "".join(f"[{c}]" if c in ".?+()" else c for c in value)
    # "$" would take a text that ends with a newline, and httpd takes backslashes for itself.
    return f'"{claim}~(?s)^{exactly}(?!.)"'


def quoted_secret(text: str, what: str) -> str:
    """A secret as one word, in quotes. Raises ValueError without showing it."""
    if not _SECRET.fullmatch(text):
        raise ValueError(f"{what} must consist of 16 to 512 letters, digits and . _ ~ + / = - only")
    return f'"{text}"'


def is_secret(text: str) -> bool:
    """Whether ``quoted_secret`` takes it."""
    return _SECRET.fullmatch(text) is not None


def label(text: str, what: str) -> str:
    """A DNS label (RFC 1123). Raises ValueError."""
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{what} must be a DNS label: at most 63 lower-case letters, digits and hyphens")
    return text


def host(text: str, what: str) -> str:
    """A host name or IPv4 address in lower case, with a port if it is not 443. Raises ValueError."""
    found = _HOST.fullmatch(text)
    if not found or not 0 < int(found[1] or 443) < 65536:
        raise ValueError(f"{what} must be a host name in lower case, such as acme.example or acme.example:8443")
    return text


def pattern(text: str, what: str) -> str:
    """Regular expression (PCRE, unanchored, unquoted) of exactly ``text``, a URL without a query. Raises ValueError."""
    if not _URL.fullmatch(text):
        raise ValueError(f"{what} must be a URL of letters, digits and . _ ~ : / % - only")
    return text.replace(".", "[.]")


def encoded_pattern(text: str, what: str) -> str:
    """Regular expression (PCRE, unanchored) of ``text`` in a query, with reserved characters encoded or not.

    Raises ValueError where it is no URL without a query (RFC 3986, section 2).
    """
    pattern(text, what)
    return "".join(c if c.isalnum() or c in "_~-" else f"(?:[{c}]|(?i:%{ord(c):02x}))" for c in text)


def address(text: str, what: str) -> str:
    """``host:port``. Raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if not found or not 0 < int(found[1]) < 65536:
        raise ValueError(f"{what} must be an address such as host:8080")
    return text


def path_pattern(prefix: str, what: str) -> str:
    """Regular expression (PCRE, unanchored) of a path prefix such as ``/docs``. Raises ValueError."""
    if not _PATH.fullmatch(prefix) or any(part in {".", ".."} for part in prefix.split("/")):
        raise ValueError(f"{what} must be a path such as /docs, without a slash at its end")
    return prefix.replace(".", "[.]")


def whole(number: int, what: str, most: int = 2**31 - 1, least: int = 1) -> int:
    """A whole number from ``least`` to ``most``. Raises ValueError."""
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise ValueError(f"{what} must be a whole number from {least} to {most}")
    return number


def network(text: str, what: str) -> str:
    """A network such as 10.0.0.0/8, in its usual spelling. Raises ValueError."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(f"{what} must be a network such as 10.0.0.0/8, with no bits set beyond its length") from None

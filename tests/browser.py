"""A person at a real browser: Debian's chromium, without a window."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from tests.integration.identity_server import totp

_CHROMIUM = "/usr/bin/chromium"
_PATIENCE_MS = 30_000


@contextmanager
def browser(names: Mapping[str, str]) -> Iterator[Page]:
    """A page of a fresh browser that finds host names at these addresses, whatever the port in its URLs.

    It takes any certificate: who vouches for the testbed's is no concern of the machine's.
    """
    rules = ", ".join(f"MAP {name} {address}" for name, address in names.items())
    with sync_playwright() as playwright:
        # As root chromium runs without a sandbox only; it sees pages of the testbed and nothing else.
        chromium = playwright.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox", f"--host-resolver-rules={rules}"]
        )
        try:
            context = chromium.new_context(ignore_https_errors=True, viewport={"width": 1100, "height": 800})
            context.set_default_timeout(_PATIENCE_MS)
            page = context.new_page()
            try:
                yield page
            except Exception as error:
                error.add_note(f"The browser was at {page.url}: {page.inner_text('body')[:500]}")
                raise
        finally:
            chromium.close()


@dataclass
class Visitor:
    """Somebody with an account and a phone for one-time passwords."""

    name: str
    password: str
    secret: bytes | None = None
    _used: set[str] = field(default_factory=set)

    def log_in(self, page: Page, provider: str | None = None, shots: Path | None = None) -> None:
        """Fill in what the identity servers ask for, enrolment included.

        ``provider``: alias of the one that has the account; ``shots``: folder for pictures of the pages.
        """
        page.wait_for_selector("#password")
        _shoot(page, shots, "login")
        if provider is not None:
            here = urlsplit(page.url).path.split("/protocol/")[0]
            page.click(f"#social-{provider}")
            page.wait_for_url(lambda url: not urlsplit(url).path.startswith(f"{here}/"))
        page.fill("#username", self.name)
        page.fill("#password", self.password)
        page.click("#kc-login")
        page.wait_for_selector("#totp, #otp")
        if page.query_selector("#totp"):
            _shoot(page, shots, "second-factor")
            self.secret = page.input_value("#totpSecret").encode()
            page.fill("#totp", self._code())
            page.fill("#userLabel", "phone")
            page.click("#saveTOTPBtn")
        else:
            page.fill("#otp", self._code())
            page.click("#kc-login")

    def _code(self) -> str:
        # A code counts once, and the next one is accepted half a minute early.
        assert self.secret is not None
        now = time.time()
        code = next(c for m in (now, now + 30, now - 30) if (c := totp(self.secret, m)) not in self._used)
        self._used.add(code)
        return code


def _shoot(page: Page, folder: Path | None, name: str) -> None:
    if folder is not None:
        page.screenshot(path=folder / f"{name}.png")

"""Numbers, addresses and dates as people have them: made up, with the check digits of real ones."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from stdnum import iban, luhn
from stdnum.de import idnr
from stdnum.iso7064 import mod_97_10

from domicile.gateway.privacy.authorities import is_health_number, is_pension_number

_IBANS = {"DE": "18n", "AT": "16n", "CH": "5n12c", "NL": "4a10n", "GB": "4a14n", "FR": "10n11c2n", "ES": "20n", "PL": "24n",
    "IT": "1a10n12c", "BE": "12n", "TR": "22n", "LU": "3n13c", "DK": "14n", "SE": "20n"}  # fmt: skip


def digits(random: Random, count: int) -> str:
    """So many digits, the first of them no 0."""
    return str(random.randint(1, 9)) + "".join(str(random.randint(0, 9)) for _ in range(count - 1))


def _letters(random: Random, count: int) -> str:
    return "".join(random.choice("ABCDEFGHKLMNPRSTUVWXYZ") for _ in range(count))


def account(random: Random, country: str | None = None) -> str:
    """An IBAN without spaces."""
    country = country or random.choice(["DE"] * 10 + list(_IBANS))
    body, count = "", ""
    for character in _IBANS[country]:
        if character.isdigit():
            count += character
        else:
            body += _letters(random, int(count)) if character == "a" else digits(random, int(count))
            count = ""
    value = country + mod_97_10.calc_check_digits(f"{body}{country}") + body
    assert iban.is_valid(value, check_country=False)
    return value


def grouped(value: str, size: int = 4, by: str = " ") -> str:
    """The value in groups."""
    return by.join(value[i : i + size] for i in range(0, len(value), size))


def card(random: Random) -> str:
    """A payment card's number without spaces."""
    body = random.choice(["4", "51", "53", "55"])
    body += "".join(str(random.randint(0, 9)) for _ in range(15 - len(body)))
    return body + luhn.calc_check_digit(body)


def _card(random: Random) -> str:
    value = card(random)
    return random.choice([value, grouped(value), grouped(value, by="-"), grouped(value)])


def _iban(random: Random) -> str:
    value = account(random)
    return random.choice(
        [value, grouped(value), grouped(value), value.lower(), grouped(value, 2), grouped(value, 5, "-")]
    )


def tax_id(random: Random) -> str:
    """A Steuer-ID."""
    while True:
        doubled = random.sample("0123456789", 9)
        body = [*doubled, random.choice(doubled)]
        random.shuffle(body)
        for last in "0123456789":
            value = "".join(body) + last
            if value[0] != "0" and idnr.is_valid(value):
                return value


def pension(random: Random) -> str:
    """A Rentenversicherungsnummer."""
    body = (
        f"{random.randint(2, 89):02d}{random.randint(1, 28):02d}{random.randint(1, 12):02d}{random.randint(0, 99):02d}"
    )
    body += f"{_letters(random, 1)}{random.randint(0, 99):02d}"
    return next(f"{body}{d}" for d in range(10) if is_pension_number(f"{body}{d}"))


def health(random: Random) -> str:
    """A Krankenversichertennummer."""
    body = _letters(random, 1) + digits(random, 8)
    return next(f"{body}{d}" for d in range(10) if is_health_number(f"{body}{d}"))


def tax_number(random: Random) -> str:
    """A Steuernummer of one of the Länder, without a check digit that would be checked."""
    a, b, c, d, e = (digits(random, n) for n in (3, 4, 4, 5, 2))
    return random.choice([f"{a}/{b}/{c}", f"{a}/{d[:3]}/{d}", f"{e}/{a}/{d}", f"0{e}/{a}/{d}"])


def _phone(random: Random, german: bool) -> str:
    if not german:
        area, middle, line = (
            random.choice(["212", "415", "312", "617"]),
            random.randint(220, 989),
            random.randint(1000, 9999),
        )
        forms = [f"({area}) {middle}-{line}", f"{area}-{middle}-{line}", f"+1 {area} {middle} {line}", f"{area}.{middle}.{line}",
            f"07{random.randint(400, 989)} {digits(random, 6)}", f"+44 20 7{random.randint(100, 999)} {line}", f"020 7946 {line}"]  # fmt: skip
        return random.choice(forms)
    mobile, line, rest = random.choice(["151", "160", "171", "176", "179"]), digits(random, 7), digits(random, 8)
    city, short = random.choice(["30", "40", "89", "221", "711"]), digits(random, 6)
    return random.choice([f"0{mobile}/{line}", f"0{mobile} {line}", f"+49 {mobile} {line}", f"0{mobile}{rest}", f"0{city} {short}",
        f"+49 (0){city} {short}", f"(0{city}) {short}", f"0{city}/{short}-0", f"0049 {city} {short}", f"0{city}-{short[:3]} {short[3:]}"])  # fmt: skip


def _birth(random: Random, german: bool) -> str:
    day, month, year = random.randint(1, 28), random.randint(1, 12), random.randint(1935, 2015)
    german_months = [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ]
    months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]
    if german:
        return random.choice(
            [
                f"{day:02d}.{month:02d}.{year}",
                f"{day}.{month}.{year % 100:02d}",
                f"{day}. {german_months[month - 1]} {year}",
            ]
        )
    return random.choice(
        [
            f"{month:02d}/{day:02d}/{year}",
            f"{months[month - 1]} {day}, {year}",
            f"{day} {months[month - 1]} {year}",
            f"{year}-{month:02d}-{day:02d}",
        ]
    )


MAKERS: dict[str, Callable[[Random, bool], str]] = {
    "IBAN": lambda r, _: _iban(r),
    "CREDIT_CARD": lambda r, _: _card(r),
    "TAX_ID": lambda r, _: r.choice([(v := tax_id(r)), f"{v[:2]} {v[2:5]} {v[5:8]} {v[8:]}"]),
    "PENSION_INSURANCE": lambda r, _: r.choice([(v := pension(r)), f"{v[:2]} {v[2:8]} {v[8]} {v[9:]}"]),
    "HEALTH_INSURANCE": lambda r, _: health(r),
    "TAX_NUMBER": lambda r, _: tax_number(r),
    "US_TAX_ID": lambda r, _: f"{r.randint(100, 665)}-{r.randint(10, 99)}-{r.randint(1000, 9999)}",
    "PHONE": _phone,
    "DATE_OF_BIRTH": _birth,
    "ACCOUNT": lambda r, _: digits(r, r.randint(6, 10)),
}
"""By kind, what makes a value; the flag says whether it is written as in Germany."""

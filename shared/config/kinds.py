"""What a setting is, and the kinds of settings: how an environment variable becomes a value.

A kind's ``parse`` gets the text without surrounding space, never empty, and a list to which it adds
what is wrong, each as the end of a sentence that begins with the setting's name: ``is '9'; it must
be a whole number of at least 10``. If it adds something and returns None, the default counts.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import timedelta
from enum import Enum, StrEnum
from typing import Generic, NamedTuple, TypeVar

from shared.domain.access import EVERYBODY, normalized
from shared.domain.credentials import holds_credentials, holds_credentials_without_scheme
from shared.domain.machine_types import DISK_TYPES, fitting_disk_types, parse_machine_type
from shared.domain.policy import Limits, UsualTimes

T_co = TypeVar("T_co", covariant=True)
Choice = TypeVar("Choice", bound=str)

AN_EMAIL = "an e-mail address in ASCII, like ada@example.com"
A_DOMAIN = "a domain in ASCII, like example.com, or xn--… for one with other letters"


class Kind(NamedTuple, Generic[T_co]):
    """What a setting's text must be, in words, and the function that reads it."""

    form: str
    parse: Callable[[str, list[str]], T_co | None]


class SetBy(StrEnum):
    """Who gives a setting its value in a deployment."""

    OPERATOR = "`settings`"  # the input of the Terraform module
    MODULE = "the module"
    LOCAL_CLOUD = "the local cloud"


class Required(Enum):
    """The default of a setting that has none."""

    REQUIRED = "required"


class Setting(NamedTuple, Generic[T_co]):
    """One environment variable.

    A NamedTuple, since a dataclass takes a millisecond longer to define, at each cold start.

    Attributes:
        name: the variable's name.
        kind: what its text must be, and how it is read.
        fills: the field of ``Settings`` that it fills, as the code reads it:
            ``machine.boot_disk_gb`` is ``settings.machine.boot_disk_gb``.
        meaning: what it does, for the table of settings.
        default: its value if it is not set.
        shown_default: what the table shows if the default depends on other settings.
        also_fills: a second field with the same value.
        set_by: who sets it in a deployment.
    """

    name: str
    kind: Kind[T_co]
    fills: str
    meaning: str
    default: T_co | Required = Required.REQUIRED
    shown_default: str = ""
    also_fills: str = ""
    set_by: SetBy = SetBy.OPERATOR


def _text(text: str, _: list[str]) -> str:
    return text


def _listed(text: str, wrong: list[str]) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        wrong.append(f"is {text!r}; it must list something")
    return parts


def _url(text: str, wrong: list[str]) -> str:
    _refuse_credentials([text], wrong)
    return text


def _urls(text: str, wrong: list[str]) -> tuple[str, ...]:
    parts = _listed(text, wrong)
    _refuse_credentials(parts, wrong)
    return parts


def _refuse_credentials(addresses: Iterable[str], wrong: list[str]) -> None:
    """Refuse an address that holds credentials. The message is logged, so it does not repeat it."""
    if any(holds_credentials(one) or holds_credentials_without_scheme(one) for one in addresses):
        wrong.append("holds credentials; it must be an address without any")


def _account(text: str, wrong: list[str]) -> str:
    return _comparable_email(text, wrong)


def _emails(text: str, wrong: list[str]) -> tuple[str, ...]:
    return tuple(
        part if part == EVERYBODY else _comparable_email(part, wrong)
        for part in _listed(text, wrong)
    )


def _domains(text: str, wrong: list[str]) -> tuple[str, ...]:
    return tuple(
        part if part == EVERYBODY else _comparable_domain(part, wrong)
        for part in _listed(text, wrong)
    )


def _comparable_email(text: str, wrong: list[str]) -> str:
    return _comparable(text, r"[!-~]+@[!-~]+", AN_EMAIL, wrong)


def _comparable_domain(text: str, wrong: list[str]) -> str:
    return _comparable(text, r"[a-z0-9-]+(\.[a-z0-9-]+)*", A_DOMAIN, wrong)


def _comparable(text: str, pattern: str, form: str, wrong: list[str]) -> str:
    """Return the form in which an address or a domain is compared.

    One that could never be equal to a person's is wrong. The message shows it in ASCII, so that a
    letter which only looks like the right one is seen.
    """
    compared = normalized(text)
    if compared is None or not re.fullmatch(pattern, compared):
        wrong.append(f"has {text!a}; it must be {form}")
    return compared or text


def _limits(text: str, wrong: list[str]) -> dict[str, Limits]:
    limits = {}
    for part in _listed(text, wrong):
        match = re.fullmatch(r"([^=\s]+)=([0-9]{1,4}):([0-9]{1,4})", part)
        if not match:
            wrong.append(f"has {part!a}; it must be WHO=WORKSPACES:RUNNING")
            continue
        compare = _comparable_email if "@" in match[1] else _comparable_domain
        limits[compare(match[1], wrong)] = Limits(int(match[2]), int(match[3]))
    return limits


def _disk_types(text: str, wrong: list[str]) -> dict[str, str]:
    types: dict[str, str] = {}
    for part in _listed(text, wrong):
        match = re.fullmatch(r"([a-z]+[0-9]+[a-z]*)=([a-z-]+)", part)
        if not match:
            wrong.append(f"has {part!r}; it must be SERIES=DISK_TYPE, like n4=hyperdisk-balanced")
            continue
        series, chosen = match[1], match[2]
        fitting = fitting_disk_types(series) or DISK_TYPES
        if chosen not in fitting:
            wrong.append(f"has {part!r}; machines of series {series} take {' or '.join(fitting)}")
        elif types.setdefault(series, chosen) != chosen:
            wrong.append(f"has two disk types for {series}; it must have one")
    return types


def _prices(text: str, wrong: list[str]) -> dict[str, str]:
    prices: dict[str, str] = {}
    for part in _listed(text, wrong):
        name, _, price = part.partition("=")
        if not (parse_machine_type(name) and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", price)):
            wrong.append(f"has {part!a}; it must be MACHINE_TYPE=PRICE, like e2-standard-4=0.134")
        elif prices.setdefault(name, price) != price:
            wrong.append(f"has two prices for {name}; it must have one")
    return prices


def _flag(text: str, wrong: list[str]) -> bool | None:
    if text in {"true", "false"}:
        return text == "true"
    wrong.append(f"is {text!r}; it must be true or false")
    return None


def _seconds(text: str, wrong: list[str]) -> timedelta | None:
    if re.fullmatch(r"\d{1,9}(\.\d{1,3})?", text):
        return timedelta(seconds=float(text))
    wrong.append(f"is {text!r}; it must be a number of seconds")
    return None


def _usual_times(text: str, wrong: list[str]) -> UsualTimes:
    usual = UsualTimes()
    known = [field.name for field in fields(UsualTimes)]
    for part in _listed(text, wrong):
        work, _, seconds = part.partition("=")
        if work not in known:
            wrong.append(f"has {part!a}; it must be WORK=SECONDS, with work of {', '.join(known)}")
        elif (time := _seconds(seconds, wrong)) is not None:
            usual = replace(usual, **{work: time})
    return usual


TEXT = Kind("text", _text)
HOST = Kind("`host:port`", _text)
LIST = Kind("a list, separated by commas", _listed)
URL = Kind("an address without credentials", _url)
URLS = Kind("addresses without credentials, separated by commas", _urls)
ACCOUNT = Kind("a service account's e-mail address", _account)
EMAILS = Kind("e-mail addresses, separated by commas", _emails)
DOMAINS = Kind("domains, separated by commas", _domains)
LIMITS = Kind("`WHO=WORKSPACES:RUNNING`, separated by commas", _limits)
SERIES_DISK_TYPES = Kind("`SERIES=DISK_TYPE`, separated by commas", _disk_types)
MACHINE_PRICES = Kind("`MACHINE_TYPE=PRICE`, separated by commas", _prices)
USUAL_TIMES = Kind("`WORK=SECONDS`, separated by commas", _usual_times)
FLAG = Kind("true or false", _flag)
SECONDS = Kind("a number of seconds", _seconds)


def _matching(form: str, pattern: str, *, secret: bool = False) -> Kind[str]:
    """Return the kind of texts that a pattern matches. What is secret is not repeated if wrong."""

    def parse(text: str, wrong: list[str]) -> str | None:
        if re.fullmatch(pattern, text):
            return text
        given = "has another form" if secret else f"is {text!a}"
        wrong.append(f"{given}; it must be {form}")
        return None

    return Kind(form, parse)


# Others' programs get these, and put them into addresses and command lines. So they have no spaces
# or control characters, and none begins with a hyphen, which ssh would take for an option.
OAUTH_CLIENT = _matching("an OAuth client's id", r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
OAUTH_SECRET = _matching("a desktop OAuth client's secret", r"[A-Za-z0-9_-]{1,255}", secret=True)
CURRENCY = _matching("a currency's code by ISO 4217, like EUR", r"[A-Z]{3}")
LOGIN_NAME = _matching("a Linux user name", r"[a-z_][a-z0-9_-]{0,31}")
JUMP_HOST = _matching(
    "`user@host:port`, of which only the host is needed",
    # The command `workspace` takes the same (its `connection.py`), and ports from 1 to 65535.
    r"([a-zA-Z_][a-zA-Z0-9._-]{0,63}@)?[a-zA-Z0-9][a-zA-Z0-9.-]{0,252}"
    r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?",
)


def whole_number(at_least: int = 0, at_most: int | None = None) -> Kind[int]:
    """Return the kind of whole numbers from ``at_least`` on, up to ``at_most`` if there is one."""
    form = f"a whole number of at least {at_least}"
    if at_most is not None:
        form = f"a whole number from {at_least} to {at_most}"

    def parse(text: str, wrong: list[str]) -> int | None:
        fits = re.fullmatch(r"\d{1,9}", text) and int(text) >= at_least
        if fits and (at_most is None or int(text) <= at_most):
            return int(text)
        wrong.append(f"is {text!r}; it must be {form}")
        return None

    return Kind(form, parse)


def seconds_or_off(
    at_least: timedelta = timedelta(), at_most: timedelta = timedelta.max
) -> Kind[timedelta | None]:
    """Return the kind of times that 0 switches off (None), within bounds if there are any."""
    bounded = at_most < timedelta.max
    bounds = f" from {at_least.total_seconds():.0f} to {at_most.total_seconds():.0f}"
    form = f"a number of seconds{bounds if bounded else ''}, or 0: off"

    def parse(text: str, wrong: list[str]) -> timedelta | None:
        seconds = _seconds(text, wrong)
        if seconds and not at_least <= seconds <= at_most:
            wrong.append(f"is {text!r}; it must be {form}")
        return seconds or None

    return Kind(form, parse)


def choice_of(choices: Iterable[Choice]) -> Kind[Choice]:
    """Return the kind that has exactly these values, such as the members of a ``StrEnum``."""
    by_text = {str(choice): choice for choice in choices}
    form = f"one of {', '.join(by_text)}"

    def parse(text: str, wrong: list[str]) -> Choice | None:
        if text not in by_text:
            wrong.append(f"is {text!r}; it must be {form}")
        return by_text.get(text)

    return Kind(form, parse)

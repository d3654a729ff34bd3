"""The proxy of target hybrid: which requests may leave, to whom, at what cost."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

from selfhost.engines import parse_image
from selfhost.errors import UsageError
from selfhost.manifests.options.fields import option as _any_option

option = partial(_any_option, only=("hybrid",))
RouteBy = Literal["own", "simple", "header"]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
# LiteLLM's own form: provider/model, as the provider writes it.
_MODEL = re.compile(r"[a-z0-9_]{2,40}(/[A-Za-z0-9._:@+-]{1,120}){1,4}")
_MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_DURATION = re.compile(r"[1-9][0-9]{0,5}[smhd]")
_URL = re.compile(r"https://[-A-Za-z0-9._~:/\[\]]{1,300}")
MOST_REPLICAS, MOST_SECONDS, MOST_RETRIES, MOST_TOKENS = 100, 86_400, 10, 10_000_000
MOST_WORDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """What target hybrid sends away."""

    fallback_model: str | None = field(
        default=None,
        metadata=option(
            "--fallback-model",
            "Closed model of target hybrid, as LiteLLM writes it: openai/NAME, anthropic/NAME.",
            "str",
            metavar="MODEL",
        ),
    )
    fallback_key_secret: str = field(
        default="fallback-key",
        metadata=option(
            "--fallback-key-secret",
            "Secret whose key `api-key` is that of the closed model's provider.",
            "str",
        ),
    )
    fallback_base: str | None = field(
        default=None,
        metadata=option(
            "--fallback-base", "Address of the closed model, where it is not its provider's own.", "str",
            metavar="URL",
        ),
    )  # fmt: skip
    fallback_price: str | None = field(
        default=None,
        metadata=option(
            "--fallback-price",
            "Dollars for a million tokens in and out, for a model whose price LiteLLM does not know.",
            "str",
            metavar="IN,OUT",
        ),
    )
    route_by: RouteBy = field(
        default="own",
        metadata=option(
            "--route-by",
            "What goes to the own model: all (the closed one stands in), what is simple, or what a header says.",
            "route_by",
            metavar="own|simple|header",
        ),
    )
    simple_tokens: int | None = field(
        default=None,
        metadata=option(
            "--simple-tokens", "With --route-by simple: longest prompt that is simple; 1,000 if absent.", "int",
            metavar="N",
        ),
    )  # fmt: skip
    complex_words: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--complex-word",
            "With --route-by simple: a word or phrase that makes a request complex; may be repeated.",
            "many",
            metavar="TEXT",
        ),
    )
    budget: str | None = field(
        default=None,
        metadata=option(
            "--budget", "Most dollars that go to the closed model in a period.", "str", metavar="USD"
        ),
    )
    budget_period: str | None = field(
        default=None,
        metadata=option(
            "--budget-period", "Period of --budget, as 1d; 30d if absent.", "str", metavar="TIME"
        ),
    )
    proxy_timeout: int | None = field(
        default=None,
        metadata=option(
            "--proxy-timeout",
            "Seconds that one try may take; else from the longest answer.",
            "int",
            metavar="N",
        ),
    )
    proxy_retries: int | None = field(
        default=None,
        metadata=option(
            "--proxy-retries", "Tries more before another model stands in; 1 if absent.", "int", metavar="N"
        ),
    )
    cooldown: int | None = field(
        default=None,
        metadata=option(
            "--cooldown", "Seconds that a model which fails is left alone; 30 if absent.", "int", metavar="N"
        ),
    )
    proxy_key_secret: str = field(
        default="proxy-key",
        metadata=option("--proxy-key-secret", "Secret whose key `api-key` clients send to the proxy.", "str"),
    )
    proxy_replicas: int | None = field(
        default=None,
        metadata=option("--proxy-replicas", "Pods of the proxy; 2 if absent.", "int", metavar="N"),
    )
    proxy_image: str | None = field(
        default=None, metadata=option("--proxy-image", "Image of the proxy.", "str", metavar="IMAGE")
    )

    def __post_init__(self) -> None:
        for flag, name in (
            ("--fallback-key-secret", self.fallback_key_secret),
            ("--proxy-key-secret", self.proxy_key_secret),
        ):
            if _NAME.fullmatch(name) is None:
                raise UsageError(f"{flag} {name[:80]!r} is not a valid name.")
        if self.fallback_key_secret == self.proxy_key_secret:
            raise UsageError(
                "--fallback-key-secret and --proxy-key-secret are one Secret: clients would hold the provider's key.",
                hint="Name two.",
            )
        if self.fallback_model is not None and _MODEL.fullmatch(self.fallback_model) is None:
            raise UsageError(
                f"--fallback-model {self.fallback_model[:120]!r} is not PROVIDER/MODEL.",
                hint="Write it as LiteLLM does: openai/gpt-5.6-luna, anthropic/claude-sonnet-5.",
            )
        if self.fallback_base is not None and not _is_address(self.fallback_base):
            raise UsageError(
                f"--fallback-base {self.fallback_base[:80]!r} is not an https address without a user name."
            )
        if self.proxy_image is not None:
            parse_image(self.proxy_image)
        self._check_fallback()
        self._check_money()
        self._check_numbers()
        self._check_route()

    @property
    def prices(self) -> tuple[str, str] | None:
        """Dollars for a million tokens, in and out."""
        if self.fallback_price is None:
            return None
        first, _, second = self.fallback_price.partition(",")
        return first, second

    def _check_fallback(self) -> None:
        """What is about the closed model needs one."""
        for flag, given in (
            ("--fallback-base", self.fallback_base is not None),
            ("--fallback-price", self.fallback_price is not None),
            ("--budget", self.budget is not None),
            ("--route-by", self.route_by != "own"),
        ):
            if given and self.fallback_model is None:
                raise UsageError(
                    f"{flag} has no effect without a closed model.",
                    hint="Add --fallback-model PROVIDER/MODEL.",
                )

    def _check_money(self) -> None:
        prices = self.prices
        if prices is not None and any(_MONEY.fullmatch(price) is None for price in prices):
            raise UsageError(
                f"--fallback-price {str(self.fallback_price)[:80]!r} is not IN,OUT.", hint="Write 1.25,10."
            )
        if self.budget is not None and (_MONEY.fullmatch(self.budget) is None or not float(self.budget)):
            raise UsageError(
                f"--budget {self.budget[:80]!r} is no amount of dollars.", hint="Write --budget 100."
            )
        if self.budget_period is not None and _DURATION.fullmatch(self.budget_period) is None:
            raise UsageError(
                f"--budget-period {self.budget_period[:80]!r} is no time.", hint="Write 1d, 12h or 30d."
            )
        if self.budget_period is not None and self.budget is None:
            raise UsageError("--budget-period has no effect without --budget.", hint="Add --budget 100.")

    def _check_numbers(self) -> None:
        for flag, value, least, most in (
            ("--simple-tokens", self.simple_tokens, 1, MOST_TOKENS),
            ("--proxy-timeout", self.proxy_timeout, 1, MOST_SECONDS),
            ("--proxy-retries", self.proxy_retries, 0, MOST_RETRIES),
            ("--cooldown", self.cooldown, 1, MOST_SECONDS),
            ("--proxy-replicas", self.proxy_replicas, 1, MOST_REPLICAS),
        ):
            if value is not None and not least <= value <= most:
                raise UsageError(f"{flag} must be between {least} and {most:,}, not {value:,}.")

    def _check_route(self) -> None:
        if self.route_by not in ("own", "simple", "header"):
            raise UsageError(f"--route-by {str(self.route_by)[:80]!r} is not own, simple or header.")
        for flag, given in (
            ("--simple-tokens", self.simple_tokens is not None),
            ("--complex-word", bool(self.complex_words)),
        ):
            if given and self.route_by != "simple":
                raise UsageError(f"{flag} has no effect without --route-by simple.", hint="Add it.")
        for word in self.complex_words:
            if not word.strip() or len(word) > MOST_WORDS or not word.isprintable():
                raise UsageError(f"--complex-word {word[:80]!r} is not a word or a phrase of one line.")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return _URL.fullmatch(url) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

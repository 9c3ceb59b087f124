"""Parts of the gateway: routes, providers, config, what is left over of requests."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from pydantic import ValidationError

from domicile.api.gateway import Endpoint, GatewayConfig, Limits, ProviderKind
from domicile.gateway.privacy.finding import Finding
from domicile.gateway.questions.asking import Desk
from domicile.gateway.questions.budgets import Budgets
from domicile.gateway.questions.intake import Room
from domicile.gateway.questions.providers import KINDS, body_for, order
from domicile.gateway.questions.record import Record, Records
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.server import Gateway
from domicile.gateway.questions.tenant import Lent, Phase, Tenant
from domicile.gateway.questions.vault import Vault, subkey

HTTPS = "https://models.example/v1"


def endpoint(name: str, kind: str = "openai", weight: int = 1, **more: Any) -> Endpoint:
    values = {"name": name, "kind": kind, "base_url": HTTPS, "models": {"small": f"{name}-s"}, "weight": weight}
    return Endpoint.model_validate(values | more)


def config(*endpoints: Endpoint, **more: Any) -> GatewayConfig:
    return GatewayConfig(tenant_id="0" * 32, callers=[], endpoints=list(endpoints), redis="redis:6379", **more)


class Analyser:
    """Closes."""

    closed = False

    async def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [[] for _ in texts]

    def ready(self) -> bool:
        return True

    def close(self) -> None:
        assert not self.closed
        self.closed = True


def tenant(analyser: Analyser) -> Tenant:
    return Tenant(Phase.of(config(), Lent(analyser)), bytes(32), lambda _: cast(Vault, None), cast(Budgets, None))


def test_these_are_all_routes() -> None:
    desk = Desk(tenant(Analyser()), cast(Any, None))
    assert set(Gateway(tenant(Analyser()), desk, Records()).routes) == {
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/domicile/anonymise"),
        ("POST", "/v1/domicile/restore"),
        ("POST", "/v1/domicile/services/{host}/{path}"),
        ("GET", "/v1/domicile/intents"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{id}"),
    }


def test_endpoints_are_drawn_by_weight_and_those_of_none_come_last() -> None:
    pool = [
        endpoint("a", weight=3),
        endpoint("spare", weight=0),
        endpoint("b"),
        endpoint("other", models={"large": "x"}),
    ]
    draw = random.Random(1).random
    orders = [[each.name for each in order(pool, "small", "/responses", draw)] for _ in range(4000)]
    assert {tuple(sorted(each)) for each in orders} == {("a", "b", "spare")}
    assert {each[-1] for each in orders} == {"spare"}
    assert 2850 < Counter(each[0] for each in orders)["a"] < 3150
    assert [each.name for each in order(pool, "small", "/responses", lambda: 0.9999)] == ["b", "a", "spare"]


def test_what_each_kind_of_provider_is_sent() -> None:
    assert set(KINDS) == set(ProviderKind)
    body = {"model": "small", "store": False, "stream": True}
    for kind, (header, _, routes, _) in KINDS.items():
        made = body_for(endpoint("a", kind), "/chat/completions", body)
        assert made["model"] == "a-s"
        assert made["stream_options"] == {"include_usage": True}
        assert ("store" in made) is (kind is not ProviderKind.GEMINI)
        assert header == ("api-key" if kind is ProviderKind.AZURE else "Authorization")
        assert "/chat/completions" in routes
    assert "stream_options" not in body_for(endpoint("a"), "/responses", body)
    assert order([endpoint("a", "gemini")], "small", "/responses", random.random) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "http://models.example/v1"},
        {"kind": "compatible", "keyed": True, "base_url": "http://models.example/v1"},
        {"base_url": f"{HTTPS}/"},
        {"base_url": "https://user:password@models.example/v1"},
        {"base_url": f"{HTTPS}?a=b"},
        {"name": "egress"},
        {"name": "../key"},
        {"weight": 101},
    ],
)
def test_endpoints_that_there_can_not_be(wrong: dict[str, Any]) -> None:
    values = {"name": "a", "kind": "openai", "base_url": HTTPS, "models": {}}
    Endpoint.model_validate(values)
    with pytest.raises(ValidationError):
        Endpoint.model_validate(values | wrong)


def test_configs_that_there_can_not_be() -> None:
    for wrong in ([endpoint("a"), endpoint("a")], [endpoint("a", through_egress=True)]):
        with pytest.raises(ValidationError):
            config(*wrong)
    config(endpoint("a", through_egress=True), egress="https://proxy:3128")
    service = {"host": "api.acme.example", "until": "2099-01-01"}
    with pytest.raises(ValidationError, match="there is none"):
        config(services=[service])
    for wrong in ("api", "10.0.0.1", "api.acme.example:8443", "api.acme.example/x", "*.example", "[::1]"):
        with pytest.raises(ValidationError, match="host"):
            config(services=[service | {"host": wrong}], egress="https://proxy:3128")
    with pytest.raises(ValidationError, match="is told a password"):
        config(endpoint("a", through_egress=True), egress="http://proxy:3128")


def test_an_analyser_is_closed_after_its_last_request() -> None:
    first, second = Analyser(), Analyser()
    one = tenant(first)
    with one.phase.lent.used():
        one.change(Phase.of(config(), one.phase.lent))
        assert not first.closed
        one.change(Phase.of(config(), Lent(second)))
        assert not first.closed
    assert first.closed
    one.close()
    assert second.closed


def test_room_is_given_back() -> None:
    room = Room(10)
    with room.share() as one, room.share() as other:
        one.take(6)
        with pytest.raises(RefusedError) as caught:
            other.take(5)
        assert (caught.value.status, caught.value.code) == (429, "busy")
        one.give_back()
        other.take(10)
    with room.share() as again:
        again.take(10)


def test_subkeys_differ_by_use_and_key() -> None:
    made = [
        subkey(key, use) for key, use in itertools.product((bytes(32), bytes(range(32))), ("vault", "placeholders"))
    ]
    assert len(set(made)) == 4
    assert {len(key) for key in made} == {32}


class Counters:
    """What redis does of counting, for a clock of the test's own."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self._answers: list[int] = []

    async def get(self, name: str) -> bytes | None:
        return str(self.kept[name]).encode() if name in self.kept else None

    def pipeline(self, transaction: bool) -> Counters:  # noqa: ARG002
        self._answers = []
        return self

    async def __aenter__(self) -> Counters:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def incrby(self, name: str, much: int) -> None:
        self.kept[name] = self.kept.get(name, 0) + much
        self._answers.append(self.kept[name])

    def expire(self, name: str, seconds: int) -> None:  # noqa: ARG002
        assert seconds > 86_400
        self._answers.append(1)

    async def execute(self) -> list[int]:
        return self._answers


async def test_budgets_begin_anew_with_the_day() -> None:
    now = datetime(2026, 3, 1, 23, 59, 50, tzinfo=UTC)
    budgets = Budgets(cast(Any, Counters()), "t", lambda: now)
    limits = Limits(requests_per_day=1, tokens_per_day=10)
    await budgets.take(limits)
    with pytest.raises(RefusedError) as caught:
        await budgets.take(limits)
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "budget_exhausted", 10)
    now = datetime(2026, 3, 2, tzinfo=UTC)
    await budgets.take(limits)
    await budgets.used(limits, 10)
    with pytest.raises(RefusedError):
        await budgets.take(Limits(tokens_per_day=10))
    await budgets.take(Limits(tokens_per_day=11))


def test_what_is_left_of_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    records = Records()
    record = Record("r", "/v1/responses", 200, "ok", "first", 12, 0.02, Counter(IBAN=2))
    records.ended(record, 0.5)
    assert capsys.readouterr().out == (
        '{"event": "request", "request": "r", "route": "/v1/responses", "status": 200, "code": "ok", "ms": 500,'
        ' "provider": "first", "tokens": 12, "found": {"IBAN": 2}}\n'
    )
    text = records.render().decode()
    for line in (
        'domicile_gateway_requests_total{code="ok",provider="first",route="/v1/responses"} 1.0',
        'domicile_gateway_tokens_total{provider="first"} 12.0',
        'domicile_gateway_findings_total{kind="IBAN"} 2.0',
        "domicile_gateway_added_seconds_count 1.0",
    ):
        assert line in text.splitlines()

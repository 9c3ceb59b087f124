"""Keys of Google's by which tokens are got."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from domicile.api import google
from domicile.api.providers import ModelProvider
from domicile.controllers.tenant import model_keys

POOL = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/site/providers/cluster"
ACCOUNT: dict[str, Any] = {"type": "service_account", "client_email": "a@b.example", "private_key": "PEM\nPEM"}
FEDERATED: dict[str, Any] = {"type": "external_account", "audience": POOL}


def test_what_is_read_of_them() -> None:
    assert google.read(json.dumps(ACCOUNT)) == google.ServiceAccount("a@b.example", "", "PEM\nPEM")
    federated = google.read(json.dumps(FEDERATED))
    assert isinstance(federated, google.Federated)
    assert federated.subject_audience == f"https:{POOL}"


@pytest.mark.parametrize(
    "held",
    [
        [], "x", None, {}, {"type": "authorized_user"}, {"type": ["service_account"]},
        ACCOUNT | {"private_key": 1}, ACCOUNT | {"client_email": None}, FEDERATED | {"audience": f"{POOL}/x"},
        FEDERATED | {"audience": f"https:{POOL}"}, FEDERATED | {"service_account_impersonation_url": ""},
    ],
)  # fmt: skip
def test_others_are_refused_and_not_quoted(held: Any) -> None:
    with pytest.raises(ValueError, match=r"^it") as caught:
        google.read(json.dumps(held))
    assert "PEM" not in str(caught.value)
    with pytest.raises(ValueError, match="no JSON"):
        google.read("[" * 100_000)


def test_a_file_of_several_lines_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "vertex.key").write_text(json.dumps(ACCOUNT, indent=2))
    word: dict[str, Any] = {"name": "vertex", "models": ["m"], "key": "vertex", "baseUrl": "https://v.example/v1"}
    plain = ModelProvider.model_validate(word)
    tokens = ModelProvider.model_validate(word | {"tokenUrl": "https://oauth2.googleapis.com/token"})
    assert model_keys.read(tmp_path, [plain]) == {"vertex": None}
    held = model_keys.read(tmp_path, [tokens])["vertex"]
    assert held is not None
    assert held.isprintable()
    assert json.loads(held) == ACCOUNT
    (tmp_path / "vertex.key").write_text("sk-1")
    assert model_keys.read(tmp_path, [tokens]) == {"vertex": "sk-1"}

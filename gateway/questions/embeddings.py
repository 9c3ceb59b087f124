"""The fields of POST /v1/embeddings (https://platform.openai.com/docs/api-reference/embeddings/create)."""

from __future__ import annotations

from typing import Final

from domicile.gateway.questions.rules import Each, Either, Fields, Number, OneOf
from domicile.gateway.questions.tools import DROP, PASSED, PROSE

# Lists of tokens are texts that nobody here can look at: each must be a string.
EMBEDDINGS: Final = Fields(
    {
        "input": Either(PROSE, Each(PROSE)),
        "model": PASSED,
        "dimensions": Number(1, 100_000),
        "encoding_format": OneOf("float", "base64"),
        "user": DROP,
    },
    ("model", "input"),
)

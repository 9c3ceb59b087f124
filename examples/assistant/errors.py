"""Errors as answers: an HTTP status, a stable code, and a message that tells people what to do. Nothing of users."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from aiohttp import web

from .access import ForbiddenError
from .anonymiser import AnonymiserError, RefusedTextError
from .conversation import OtherPersonError
from .identity import IdentityError
from .model import ForbiddenQuestionError, ModelError, ModelTimeoutError, UnknownQuestionError
from .store import StoreError
from .trust import TrustError

MAX_BODY_BYTES = 512 * 1024

_LOG = logging.getLogger("assistant.errors")


class ApiError(Exception):
    """An answer other than success: HTTP status, stable code, message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        return {"error": {"code": self.code, "message": self.message}}


def failure_of(error: Exception) -> ApiError:
    """The answer to a request that ended with ``error``. Logs what is not the user's doing."""
    match error:
        case ApiError():
            return error
        case web.HTTPRequestEntityTooLarge():
            return ApiError(413, "too_large", f"The request is larger than {MAX_BODY_BYTES} bytes.")
        case web.HTTPException() if error.status >= 400:
            return ApiError(error.status, error.reason.lower().replace(" ", "_"), error.reason)
    return _of_who_asks(error) or _of_what_is_needed(error) or _unexpected(error)


def _of_who_asks(error: Exception) -> ApiError | None:
    match error:
        case IdentityError():
            return ApiError(401, error.code, str(error))
        case ForbiddenError():
            return ApiError(403, "forbidden", str(error))
        case OtherPersonError():
            return ApiError(401, "no_session", "This session is another person's. Start one: POST /api/sessions.")
    return None


def _of_what_is_needed(error: Exception) -> ApiError | None:
    match error:
        case TrustError():
            _LOG.warning("ASSISTANT_IDENTITY: %s", error)
            return ApiError(
                503,
                "identity_unavailable",
                f"Nobody can be let in right now. An administrator has to mend the identity file: {error}.",
            )
        case StoreError():
            _LOG.warning("%s", error)
            return ApiError(
                503, "store_unavailable", "The assistant's store can't be reached right now. Try again later."
            )
        case RefusedTextError():
            return ApiError(
                422,
                "not_recorded",
                "This holds what may not be kept here, so it was not recorded. Leave it out, or stop recording.",
            )
        case AnonymiserError():
            _LOG.warning("%s", error)
            return ApiError(
                503,
                "anonymiser_unavailable",
                "Names can't be taken out of texts, or put back, right now. Try again later.",
            )
        case UnknownQuestionError():
            return ApiError(
                422,
                "question_unknown",
                "This assistant answers set questions only, and this is none of them. Ask one of them, word for word.",
            )
        case ForbiddenQuestionError():
            _LOG.warning("a question, what was said before, or knowledge found for it holds what nobody may ask")
            return ApiError(
                422,
                "question_forbidden",
                "Your question, what was said before, or a passage found for it holds what may not be asked here, such"
                " as data about health or cards. Ask without it, or begin anew.",
            )
        case ModelTimeoutError():
            _LOG.warning("%s", error)
            return ApiError(504, "model_timeout", "The model took too long to answer. Try again later.")
        case ModelError():
            _LOG.warning("%s", error)
            return ApiError(502, "model_unavailable", "The model gave no complete answer. Try again later.")
    return None


def _unexpected(error: Exception) -> ApiError:
    # Messages of exceptions may hold what a user wrote: the log gets their type and place only.
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    places = ", ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in frames)
    _LOG.error("unexpected %s at %s", type(error).__name__, places)
    return ApiError(500, "internal", "Something went wrong here. The operator of this assistant finds it in the log.")

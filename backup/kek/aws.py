"""A key of AWS KMS, always at the regional endpoint of the key's own region.

Sources: AWS KMS API Reference (Encrypt, Decrypt and their errors); AWS General Reference (KMS endpoints); botocore's
configuration reference. A ciphertext is what Encrypt returns; its encryption context is the wrap's.
"""

from __future__ import annotations

from typing import Any, NoReturn

import botocore.exceptions as boto

from domicile.backup.errors import WrongKeyError
from domicile.backup.kek.base import Context, KeyUnavailableError, digest_of
from domicile.backup.stores import aws_identity
from domicile.backup.stores.accounts import Account
from domicile.backup.stores.base import UnavailableError
from domicile.backup.stores.deadlines import Deadlines

# KMS answers the second where KeyId names another key than the one that the ciphertext was made with.
_WRONG = {"InvalidCiphertextException", "IncorrectKeyException"}
_PASSING = {"DependencyTimeoutException", "KeyUnavailableException", "KMSInternalException", "ThrottlingException"}
_NO_CREDENTIALS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)


def endpoint(region: str) -> str:
    """URL of KMS in a region (AWS General Reference; the European Sovereign Cloud has a domain of its own)."""
    return f"https://kms.{region}.{aws_identity.domain(region)}"


def region_of(arn: str) -> str:
    """The region of a key by its ARN, which the API's schema has checked."""
    return arn.split(":")[3]


def client(region: str, account: Account | None, deadlines: Deadlines) -> Any:
    """A thread-safe client of KMS in one region; ``account`` as ``accounts.load`` gives it, None: of nobody.

    A role is assumed at the STS of the same region. Neither the environment nor a profile can name other endpoints.
    """
    session = aws_identity.session(account, region, deadlines)
    return session.create_client("kms", region_name=region, endpoint_url=endpoint(region))


class AwsKmsKey:
    """A symmetric key of AWS KMS, by its ARN."""

    def __init__(self, arn: str, kms: Any, deadlines: Deadlines) -> None:
        self._arn = arn
        self._kms = kms
        self._deadlines = deadlines

    @property
    def digest(self) -> str:
        """16 hex digits that tell this key from others."""
        return digest_of("aws", self._arn)

    def encrypt(self, plaintext: bytes, context: Context) -> bytes:
        """Ciphertext by KMS. Raises KeyUnavailableError."""
        return self._call("encrypt", "CiphertextBlob", Plaintext=plaintext, EncryptionContext=dict(context))

    def decrypt(self, ciphertext: bytes, context: Context) -> bytes:
        """Plaintext by KMS, under this key and no other. Raises KeyUnavailableError, WrongKeyError."""
        return self._call("decrypt", "Plaintext", CiphertextBlob=ciphertext, EncryptionContext=dict(context))

    @property
    def _where(self) -> str:
        return f"AWS KMS in {region_of(self._arn)}"

    def _call(self, operation: str, wanted: str, **arguments: Any) -> bytes:
        def once() -> bytes:
            try:
                answer = getattr(self._kms, operation)(KeyId=self._arn, **arguments)
            except boto.ClientError as error:
                self._refused(operation, error)
            except _NO_CREDENTIALS:
                raise KeyUnavailableError(f"{self._where}: no usable credentials") from None
            except boto.BotoCoreError as error:
                raise UnavailableError(f"{self._where}: no answer ({type(error).__name__})") from None
            if answer["KeyId"] != self._arn:
                raise KeyUnavailableError(f"{self._where} answered for another key than it was asked for")
            return bytes(answer[wanted])

        try:
            return self._deadlines.run(once)
        except UnavailableError as error:
            raise KeyUnavailableError(str(error)) from None

    def _refused(self, operation: str, error: boto.ClientError) -> NoReturn:
        # The message of KMS may quote the request; its code says enough.
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in _WRONG:
            raise WrongKeyError(
                f"{self._where} does not open this wrap ({code}): it was made with another key, for another tenant or"
                " zone, or is damaged"
            ) from None
        if code in _PASSING or status >= 500 or status == 429:
            raise UnavailableError(f"{self._where}: no outcome (HTTP {status} {code})") from None
        raise KeyUnavailableError(
            f"{self._where} refuses to {operation} ({code}); check that the key exists and is enabled, and that the"
            f" key's policy and this identity allow kms:{operation.capitalize()}"
        ) from None

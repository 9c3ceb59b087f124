"""Prepares what is measured, as processes of its own.

    python -m tests.bench.data certificate FOLDER
    python -m tests.bench.data fill STORE URL BUCKET BYTES SEED FIRST END STEP
    python -m tests.bench.data files FOLDER COUNT [DIRECTORY_NAMES FILE_NAMES]

``certificate`` makes an authority and a certificate for loopback and prints the paths of certificate and key. ``fill``
writes objects of random bytes into a bucket of a store; another seed means other bytes. ``files`` lays files of 0 to 16
bytes where versitygw finds them as objects, in folders of 1,000; with names (JSON lists) it gives them the sizes that
rclone's crypt makes of those.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from tests.bench.servers import ACCESS, REGION, SECRET

_AT_ONCE = 16
# What rclone's crypt adds to a file, and to each block of at most 64 KiB (rclone, crypt: file formats).
_CRYPT_HEADER, _CRYPT_BLOCK = 32, 16


def name(index: int) -> str:
    """Name of an object: 100 folders, as documents lie in."""
    return f"{index % 100:02d}/{index:032x}"


class _Put(Protocol):
    async def __call__(self, name: str, data: bytes) -> None: ...


def certificate(folder: str) -> None:
    """Make an authority and a certificate, and print where they are."""
    from tests.testbed.pki import Authority

    print(*Authority(Path(folder)).issue("server", "bench", hosts=("127.0.0.1",)))


async def fill(store: str, url: str, bucket: str, size: int, seed: int, indexes: Iterable[int]) -> None:
    """Write objects, some at a time."""
    waiting = iter(indexes)

    async def work(put: _Put) -> None:
        for index in waiting:
            await put(name(index), hashlib.shake_128(f"{seed}/{index}".encode()).digest(size))

    async def run(put: _Put) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE if size < 1 << 20 else 2):
                group.create_task(work(put))

    await (_fill_s3 if store == "s3" else _fill_gcs)(url, bucket, run)


async def _fill_s3(url: str, bucket: str, run: Any) -> None:
    import obstore
    from obstore.store import S3Store

    target = S3Store(
        bucket,
        endpoint=url,
        access_key_id=ACCESS,
        secret_access_key=SECRET,
        region=REGION,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "300s"},
    )

    async def put(name: str, data: bytes) -> None:
        # Not put_async: its runtime may call into an interpreter that is ending (pyo3-async-runtimes, issue 40).
        await asyncio.to_thread(obstore.put, target, name, data, use_multipart=False)

    await run(put)


async def _fill_gcs(url: str, bucket: str, run: Any) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def put(name: str, data: bytes) -> None:
            query = {"uploadType": "media", "name": name}
            async with session.post(f"{url}/upload/storage/v1/b/{bucket}/o", params=query, data=data) as answer:
                answer.raise_for_status()

        await run(put)


def files(folder: Path, count: int, names: tuple[list[str], list[str]] | None) -> None:
    """Lay out files by the system's own calls; through the gateway this would take ten times as long."""
    numbers = [f"{number:03d}" for number in range(1000)]
    directories, files = names or (numbers, numbers)
    for index in range(count):
        where = folder / directories[index // 1000]
        if index % 1000 == 0:
            where.mkdir(parents=True)
        size = index % 17
        data = bytes(size if names is None else size and size + _CRYPT_BLOCK) + bytes(_CRYPT_HEADER if names else 0)
        path = where / files[index % 1000]
        path.write_bytes(data)
        os.setxattr(path, "user.etag", f'"{hashlib.md5(data).hexdigest()}"'.encode())


def main(command: str, *arguments: str) -> None:
    """Run one command."""
    match command, *arguments:
        case "certificate", folder:
            certificate(folder)
        case "fill", store, url, bucket, size, seed, *span:
            asyncio.run(fill(store, url, bucket, int(size), int(seed), range(*map(int, span))))
        case "files", folder, count:
            files(Path(folder), int(count), None)
        case "files", folder, count, directories, names:
            files(Path(folder), int(count), (json.loads(directories), json.loads(names)))
        case _:
            raise SystemExit(f"bench: no such command: {command}")


if __name__ == "__main__":
    main(*sys.argv[1:])

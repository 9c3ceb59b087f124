"""TLS before a server that has none.

python -m tests.testbed.front LISTEN TARGET CERTIFICATE KEY       (LISTEN and TARGET: address:port)
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from asyncio import StreamReader, StreamWriter


async def main(listen: str, target: str, certificate: str, key: str) -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    host, port = target.split(":")

    async def copy(reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, back), copy(there, writer))

    address, number = listen.split(":")
    server = await asyncio.start_server(serve, address, int(number), ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""A lease agent that says what a test wants: GET /v1/lease/{tenant} as the real one, POST /script to change its mind.

    python -m tests.integration.lease_server

Prints its port. The script is {"mode": "grant"|"refuse"|"hang"|"garbage", "seconds", "epoch"}.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

SCRIPT: dict[str, Any] = {"mode": "refuse", "seconds": 1.5, "epoch": 1}


async def lease(request: web.Request) -> web.Response:
    match SCRIPT["mode"]:
        case "grant":
            tenant = request.match_info["tenant"]
            return web.json_response(
                {"tenant": tenant, "epoch": SCRIPT["epoch"], "remainingSeconds": SCRIPT["seconds"]}
            )
        case "hang":
            await asyncio.sleep(3600)
        case "garbage":
            return web.Response(text='{"remainingSeconds": NaN', status=200)
    return web.json_response({"reason": "HigherClaim", "message": "Another site holds the tenant."}, status=503)


async def script(request: web.Request) -> web.Response:
    SCRIPT.update(await request.json())
    return web.Response()


async def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/v1/lease/{tenant}", lease), web.post("/script", script)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

"""The door for instruments: takes notifications, refuses what it should not see.

One address, ``POST /notify``. In this order: the sender's network (403), the password (401), the
size (413, before the body is read), the form (422), the place (403). What is left becomes a run of
the deployment `session/session` with the message's id as idempotency key, so that a message that
comes twice is taken once; only then the sender hears 202. If Prefect is away it hears 503 and
keeps the message.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from base64 import b64decode
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..lib.errors import UserError
from ..lib.instrument import first_problem
from .notification import Notification

if TYPE_CHECKING:
    from .settings import ServiceSettings

DEPLOYMENT = "session/session"
_log = logging.getLogger(__name__)

# From a deployment, the parameters and the key: the id of the run, an older one of the same key
Start = Callable[[str, dict[str, Any], str], Coroutine[Any, Any, str]]
MOST_WAITING = 1000
_LOOK_S = 1.0


def gateway(settings: ServiceSettings, start: Start) -> Starlette:
    """The web application.

    Parameters
    ----------
    settings : networks, password, roots and sizes.
    start : starts a flow run; raises OSError, or what `_away` knows, where Prefect does not answer.
    """

    # one for each message, however often it comes while Prefect is slow
    running: dict[str, asyncio.Task[str]] = {}

    async def notify(request: Request) -> Response:
        if not _known_network(request, settings):
            return _no(403, "this computer's network is not in `instruments` of the settings")
        if not _knows_password(request, settings):
            answer = _no(401, "no or wrong user and password")
            answer.headers["WWW-Authenticate"] = 'Basic realm="ewaldflow"'
            return answer
        limit = settings.largest_message_bytes
        if _stated_length(request) > limit:
            return _no(413, f"more than {limit} bytes; `largest_message_bytes` is the limit")
        body = bytearray()
        try:
            async for block in request.stream():
                body += block
                if len(body) > limit:
                    return _no(
                        413, f"more than {limit} bytes; `largest_message_bytes` is the limit"
                    )
        except ClientDisconnect:
            return _no(400, "the message ended before its end")
        try:
            message = Notification.model_validate_json(bytes(body))
        except ValidationError as error:
            return _no(422, str(first_problem("message", error)))
        try:
            folder = message.folder(settings.roots)
        except UserError as error:
            return _no(403, str(error))
        parameters = {
            "folder": str(folder),
            "name": message.session.replace("/", "-"),
            "series": [one.model_dump() for one in message.series],
            "closed": message.closed,
            "instrument": message.metadata.instrument,
            "sample": message.metadata.sample,
        }
        if message.id not in running:
            if len(running) >= MOST_WAITING:
                return _no(503, "many messages wait; this one is to be sent again")
            running[message.id] = asyncio.create_task(start(DEPLOYMENT, parameters, message.id))
            running[message.id].add_done_callback(lambda _: running.pop(message.id))
        handed_on = running[message.id]
        while not (await asyncio.wait({handed_on}, timeout=_LOOK_S))[0]:
            if await request.is_disconnected():  # it comes again, and finds what was begun
                return Response(status_code=408)
        try:
            run = handed_on.result()
        except Exception as error:  # whatever Prefect's client raises when its server is away
            _log.warning("Prefect did not take %s: %s", message.id[:12], error)
            return _no(503, "the server of flows does not answer; the message is to be sent again")
        return JSONResponse({"run": run}, 202)

    async def health(_: Request) -> Response:
        return JSONResponse({"ready": True})

    return Starlette(
        routes=[
            Route("/notify", notify, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ]
    )


def _no(status: int, reason: str) -> JSONResponse:
    # the rest of a body that is not wanted is not read, so the connection cannot go on
    return JSONResponse({"refused": reason}, status, {"Connection": "close"})


def _known_network(request: Request, settings: ServiceSettings) -> bool:
    if request.client is None:
        return False
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return False
    return any(address in network for network in settings.instruments)


def _knows_password(request: Request, settings: ServiceSettings) -> bool:
    kind, _, word = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return False
    try:
        given = b64decode(word, validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(given, settings.auth.encode())


def _stated_length(request: Request) -> int:
    try:
        return int(request.headers.get("content-length", "0"))
    except ValueError:
        return 0

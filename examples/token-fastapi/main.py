"""Gives a logged-in user a token for one room. The API key stays in this process."""

import base64
import http.client
import json
import logging
import os
from contextlib import closing
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse

from demo_users import logged_in_user, role_in

for name in ("SIGNALBOX_URL", "KEY_ID", "KEY_SECRET"):
    if not os.environ.get(name):
        raise RuntimeError(f"Set {name}.")
URL = urlsplit(os.environ["SIGNALBOX_URL"])
KEY = base64.b64encode(f"{os.environ['KEY_ID']}:{os.environ['KEY_SECRET']}".encode()).decode()

app = FastAPI()
log = logging.getLogger(__name__)


@app.exception_handler(HTTPException)
def refuse(_, error):
    return JSONResponse(error.detail, error.status_code, error.headers)


@app.post("/token")
def token(user: Annotated[str, Depends(logged_in_user)], room: str = ""):
    role = role_in(room, user)
    if role is None:
        raise HTTPException(403, {"code": "room_not_allowed", "detail": "You may not enter this room."})
    status, body = request_token({"room": room, "user": user, "role": role})
    return JSONResponse(body, status, headers={"Cache-Control": "no-store"})


def request_token(wanted):
    """Returns the status and the body of the answer to the page. Logs the reason, never the token."""
    connect = http.client.HTTPSConnection if URL.scheme == "https" else http.client.HTTPConnection
    headers = {"Authorization": f"Basic {KEY}", "Content-Type": "application/json"}
    try:
        with closing(connect(URL.netloc, timeout=5)) as connection:
            # Follows no redirect, which would carry the key to another address.
            connection.request("POST", f"{URL.path}/auth/token", json.dumps(wanted), headers)
            answer = connection.getresponse()
            body = dict(json.load(answer))
    except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
        log.error("Signalbox does not answer: %s", type(error).__name__)
        return 503, {"code": "unreachable", "detail": "The call server does not answer."}
    if "token" in body:
        return 200, {"token": body["token"]}
    log.error("Signalbox gives no token: %s %s: %s", answer.status, body.get("code"), body.get("detail"))
    # 403 and "not now" concern the user. All other refusals are faults of this program or its key.
    status = answer.status if answer.status in (403, 429, 503) else 502
    return status, {"code": body.get("code"), "detail": "The call server refused."}

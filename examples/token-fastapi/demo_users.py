"""REPLACE THIS FILE: your application knows its users and their rooms.

For the demo, one user logs in with HTTP authentication: DEMO_LOGIN=ada:PASSWORD
"""

import base64
import os
import secrets
from typing import Annotated

from fastapi import Header, HTTPException

LOGIN = os.environ.get("DEMO_LOGIN", "")
USER, _, PASSWORD = LOGIN.partition(":")
if not USER or len(PASSWORD) < 16:
    raise RuntimeError("Set DEMO_LOGIN to ada:PASSWORD, with a password of at least 16 characters.")

# Room → user → role.
MEMBERS = {"stand-up": {"ada": "host", "grace": "guest"}}


def role_in(room, user):
    """The role of a user in a room, or None: the user may not enter."""
    return MEMBERS.get(room, {}).get(user)


def logged_in_user(authorization: Annotated[str, Header()] = ""):
    """Returns the user, or answers 401. Yours reads the session of your application."""
    wanted = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
    if not secrets.compare_digest(authorization.encode(), wanted.encode()):
        problem = {"code": "login_required", "detail": "Log in first."}
        raise HTTPException(401, problem, {"WWW-Authenticate": 'Basic realm="demo"'})
    return USER

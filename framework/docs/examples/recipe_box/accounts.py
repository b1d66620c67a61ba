"""Cooks: joining, logging in, and who may read what."""

import hashlib
import hmac
import secrets

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from unwritten import Page, Router

router = Router()


class Cook(BaseModel):
    id: int | None = None
    name: str = Field(pattern=r"^[a-z0-9]{2,20}$")  # short and plain: it is the value of `vary`
    salt: str
    password: str


cooks = router.table(Cook, index=["name"])


def hashed(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1).hex()


def cook(request: Request) -> str | None:
    """Return the name of the cook who is logged in."""
    return request.session.get("cook")


def signed_in(request: Request) -> bool:
    if cook(request) is None:
        raise HTTPException(303, headers={"Location": str(request.url_for("login"))})
    return True


@router.page("/login")
def login() -> Page:
    return Page("login.html", title="Log in")


@router.action("/enter")
def enter(name: str, password: str, request: Request) -> Response | str:
    found = next(iter(cooks.select(name=name)), None)
    if found is None or not hmac.compare_digest(found.password, hashed(password, found.salt)):
        return router.app.render("refused.html", status_code=403, title="Name and password do not match")
    request.session["cook"] = name
    return router.app.url_path_for("cookbook")


@router.action("/join")
def join(name: str, password: str, request: Request) -> Response | str:
    if cooks.count(name=name) or len(password) < 8:
        return router.app.render("refused.html", status_code=403, title="Choose another name, and eight characters")
    salt = secrets.token_hex(16)
    cooks.insert(Cook(name=name, salt=salt, password=hashed(password, salt)))
    request.session["cook"] = name
    return router.app.url_path_for("cookbook")


@router.action("/leave")
def leave(request: Request) -> str:
    request.session.clear()
    return "/"

"""Who may ask: the page that this server sent, and nobody else's; and what browsers are told of every answer."""

import ipaddress
import re
import socket
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "worker-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class SecurityMiddleware:
    """Lets requests through that name this machine and come from its own page; the first line against other pages.

    A page elsewhere can make a browser send requests here, and read the answers where a name of its own leads to this
    machine (DNS rebinding). It can change neither the Host nor the Origin that the browser sends. The port in Host may
    be another, as it is behind a forwarded one: Origin must be the same place.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._is_open = not _is_loopback(host)
        own = f"[{host}]" if ":" in host else host.lower()
        self._names = LOOPBACK | {own} | ({socket.gethostname().lower()} if self._is_open else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it in one line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        app = PlainTextResponse(refusal, 403) if refusal else self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, method: str, path: str, headers: Headers) -> str:
        """Why a request is refused; empty for one that is not."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return "this server answers only under its own name"
        is_elsewhere = any(origin.lower() != f"http://{hosts[0].lower()}" for origin in headers.getlist("origin"))
        if is_elsewhere or not (_is_of_page(headers) or _follows_link(method, path, headers)):
            return "this server answers only its own page"
        return ""

    def _is_own(self, host: str) -> bool:
        """Whether a Host names this machine; where others can reach it, any address does: that is nobody's name."""
        found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", host.lower())
        return found is not None and (found[1] in self._names or (self._is_open and _is_address(found[1])))


def _is_of_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that its person or this server's page asks, or nothing, as other programs do."""
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _follows_link(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a person comes here by a link to a view: the page itself, in a window of its own."""
    kind = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method == "GET" and path == "/" and kind == ("navigate", "document")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)

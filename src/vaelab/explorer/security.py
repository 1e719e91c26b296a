"""Host and Origin checks and security headers."""

import ipaddress
import re
import secrets
import socket
from collections.abc import Collection, Mapping
from types import MappingProxyType

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


def policy_text(changes: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the content security policy with changes; an empty value removes a directive."""
    return "; ".join(f"{key} {value}" for key, value in {**POLICY, **changes}.items() if value)


HEADERS = {
    "Content-Security-Policy": policy_text(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FRAME_HEADERS = {**HEADERS, "Content-Security-Policy": policy_text({"frame-ancestors": ""})}
"""Headers of the page in a frame of another one."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class SecurityMiddleware:
    """Answers only requests that name this machine as host and come from this server's own page.

    Another page can make a browser send requests here, and can read the answers if its own host name resolves to this
    machine (DNS rebinding). It can forge neither the Host nor the Origin header. The port in Host may differ from the
    server's, for example behind port forwarding, so Origin is compared with Host.

    No other page may show this one in a frame, except at /?frame=TOKEN with the secret ``frame_token``.
    """

    def __init__(self, app: ASGIApp, host: str, frame_token: str = "") -> None:
        self._app, self._frame_query = app, f"frame={frame_token}".encode() if frame_token else b""
        self._is_public = not _is_loopback(host)
        own = f"[{host}]" if ":" in host else host.lower()
        self._names = LOOPBACK | {own} | ({socket.gethostname().lower()} if self._is_public else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it with one line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        is_frame = bool(self._frame_query) and secrets.compare_digest(scope["query_string"], self._frame_query)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(FRAME_HEADERS if is_frame else HEADERS)
            await send(message)

        destinations = ("document", "iframe", "object") if is_frame else ("document",)
        refusal = self._find_refusal(scope["method"], scope["path"], Headers(scope=scope), destinations)
        app = PlainTextResponse(refusal, 403) if refusal else self._app
        await app(scope, receive, send_with_headers)

    def _find_refusal(self, method: str, path: str, headers: Headers, destinations: Collection[str]) -> str:
        """Return why a request is refused, or an empty string."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return "this server answers only under its own name"
        is_foreign = any(origin.lower() != f"http://{hosts[0].lower()}" for origin in headers.getlist("origin"))
        if is_foreign or not (_is_same_site(headers) or _is_navigation(method, path, headers, destinations)):
            return "this server answers only its own page"
        return ""

    def _is_own(self, host: str) -> bool:
        """Whether a Host header names this machine; a public server accepts any IP address, which no one can rebind."""
        found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", host.lower())
        return found is not None and (found[1] in self._names or (self._is_public and _is_address(found[1])))


def _is_same_site(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that the user or this page sent the request; programs without the header pass."""
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _is_navigation(method: str, path: str, headers: Mapping[str, str], destinations: Collection[str]) -> bool:
    """Whether the page is opened at one of the ``destinations``: a link to a window of its own, or a frame."""
    is_opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") in destinations
    return method == "GET" and path == "/" and is_opened


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)

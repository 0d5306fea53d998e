"""The server of the page: endpoints of JSON, the page itself, and a run's report."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import plotly
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raynas.dashboard import answers
from raynas.dashboard.runs import NoSuchRun, Runs
from raynas.dashboard.saying import Sayings
from raynas.errors import UserError

HERE = Path(__file__).parent
PLOTLY = Path(plotly.__file__).parent / "package_data/plotly.min.js"
STYLE = HERE.parent / "report/style.css"
TOO_MANY = 5000  # trials beyond which a click does not compute claims anew
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data: blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)  # plotly sets styles; scripts are ours and plotly's alone
REPORT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

Answer = Callable[[Request], Any]


class Guard:
    """Answers only who asks for this host by its name, which a page elsewhere that lets its own
    name point here (DNS rebinding) does not; and tells browsers what a page may load."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name not in self._hosts:
            refused = JSONResponse({"error": "expected a Host that is served here."}, 421)
            await refused(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                if b"content-security-policy" not in given:
                    message["headers"].append((b"content-security-policy", POLICY.encode()))
                message["headers"] += [
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


class Page:
    """What the endpoints answer. Run names come from the listing alone."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.sayings = Runs(folder), Sayings()
        self.token = secrets.token_urlsafe(32)
        pages = Environment(
            loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined
        )
        self._page = pages.get_template("page.html.jinja")

    def index(self, _: Request) -> Response:
        return HTMLResponse(self._page.render(token=self.token, folder=str(self.runs.folder)))

    def listing(self, _: Request) -> Any:
        found = []
        for name in self.runs.names():
            try:
                row = self.runs.read(name, answers.summary)
                found.append({k: row[k] for k in ("state", "done", "all", "shown_best", "left")})
            except (UserError, OSError) as error:
                found.append({"state": "broken", "error": str(error)})
            found[-1]["name"] = name
        return {"runs": found}

    def summary(self, request: Request) -> Any:
        name = request.path_params["name"]
        said = self.sayings.state(name)
        return self.runs.read(name, answers.summary) | {"name": name, "started": said}

    def front(self, request: Request) -> Any:
        return self.runs.read(request.path_params["name"], answers.front)

    def trials(self, request: Request) -> Any:
        before, status = (request.query_params.get(k, "") for k in ("before", "status"))
        below = int(before) if before.isdecimal() else None
        return self.runs.read(
            request.path_params["name"], lambda c, d: answers.trials(c, d, below, status)
        )

    def trial(self, request: Request) -> Any:
        number = request.path_params["number"]
        return self.runs.read(request.path_params["name"], lambda c, d: answers.trial(c, d, number))

    def claims(self, request: Request) -> Any:
        name, number = request.path_params["name"], request.path_params["number"]
        _, data = self.runs.look(name)
        if sum(n for group in data.counts.values() for n in group.values()) > TOO_MANY:
            raise UserError(
                f"this run has more than {TOO_MANY:,} trials: its claims are in the report, and "
                f"`raynas explain RUN --trial {number}` makes those of this design."
            )

        def made(result: Any) -> dict[str, Any]:
            layers = answers.layers(result, number)
            return {"layers": layers, "claims": answers.claims(result, number)}

        return self.runs.explained(name, number, made)

    def layer(self, request: Request) -> Any:
        name, number, layer = (request.path_params[k] for k in ("name", "number", "layer"))
        return self.runs.explained(
            name, (number, layer), lambda r: answers.of_layer(r, number, layer)
        )

    def report(self, request: Request) -> Response:
        path = self.runs.run(request.path_params["name"]).path / "report.html"
        if not path.is_file():
            raise NoSuchRun("this run has no report yet: it is written when the search ends.")
        return HTMLResponse(path.read_bytes(), headers={"content-security-policy": REPORT})

    async def say(self, request: Request) -> Any:
        data = await self._posted(request)
        name, said = request.path_params["name"], str(data.get("say", ""))
        run = self.runs.run(name)
        answer, key = await run_in_threadpool(self.sayings.shown, name, run.path, said)
        return {"answer": answer, "key": key}

    async def confirm(self, request: Request) -> Any:
        data = await self._posted(request)
        name, trials = request.path_params["name"], data.get("trials")
        if trials is not None and (not isinstance(trials, int) or isinstance(trials, bool)):
            raise UserError(f"trials: expected a whole number; got {trials!r}.")
        run = self.runs.run(name)
        await run_in_threadpool(
            self.sayings.confirm, name, run.path, str(data.get("key", "")), trials
        )
        return {"started": True}

    async def _posted(self, request: Request) -> dict[str, Any]:
        """The JSON of a POST that comes from the page itself."""
        token = request.headers.get("x-raynas-token", "")
        origin = request.headers.get("origin")
        own = f"{request.url.scheme}://{request.headers['host']}"
        if not hmac.compare_digest(token.encode(), self.token.encode()) or origin != own:
            raise PermissionError("expected a request of the page itself; load it anew.")
        if int(request.headers.get("content-length", 10**6)) > 10**5:
            raise UserError("expected less than 100 kB.")
        try:
            data = await request.json()
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise UserError("expected a JSON object.")
        return data


def app(folder: Path, hosts: frozenset[str]) -> Starlette:
    """The page over the runs of a folder.

    Args:
        hosts: names by which it may be asked for, without port.
    """
    page = Page(folder)
    css = STYLE.read_text() + (HERE / "page.css").read_text()

    def file(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
        async def sent(_: Request) -> Response:
            kept = {"cache-control": "max-age=3600"} if len(content) > 10**6 else None
            return Response(content, media_type=kind, headers=kept)

        return sent

    one = "/api/runs/{name}"
    return Starlette(
        routes=[
            Route("/", _answered(page.index)),
            Route("/page.js", file((HERE / "page.js").read_bytes(), "text/javascript")),
            Route("/page.css", file(css.encode(), "text/css")),
            Route("/plotly.js", file(PLOTLY.read_bytes(), "text/javascript")),
            Route("/report/{name}", _answered(page.report)),
            Route("/api/runs", _answered(page.listing)),
            Route(one, _answered(page.summary)),
            Route(f"{one}/front", _answered(page.front)),
            Route(f"{one}/trials", _answered(page.trials)),
            Route(f"{one}/trials/{{number:int}}", _answered(page.trial)),
            Route(f"{one}/trials/{{number:int}}/claims", _answered(page.claims)),
            Route(f"{one}/trials/{{number:int}}/layers/{{layer:int}}", _answered(page.layer)),
            Route(f"{one}/say", _posted(page.say), methods=["POST"]),
            Route(f"{one}/confirm", _posted(page.confirm), methods=["POST"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
    )


def _answered(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that answers in a thread: reading takes a moment."""

    async def endpoint(request: Request) -> Response:
        try:
            return _as_response(await run_in_threadpool(answer, request))
        except (UserError, OSError) as error:
            return _refused(error)

    return endpoint


def _posted(
    answer: Callable[[Request], Awaitable[Any]],
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return _as_response(await answer(request))
        except (UserError, OSError) as error:
            return _refused(error)

    return endpoint


def _as_response(found: Any) -> Response:
    return found if isinstance(found, Response) else JSONResponse(found)


def _refused(error: Exception) -> Response:
    code = (
        404 if isinstance(error, NoSuchRun) else 403 if isinstance(error, PermissionError) else 400
    )
    return JSONResponse({"error": str(error)}, code)

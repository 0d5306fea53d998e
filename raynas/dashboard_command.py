"""`raynas dashboard`: one local page over all runs of a folder."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys

from raynas.errors import UserError
from raynas.files import place

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def dashboard(a: argparse.Namespace) -> int:
    """Serves until an interrupt."""
    try:
        import uvicorn

        from raynas.dashboard.server import app
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("uvicorn", "starlette", "plotly"):
            raise
        raise UserError(
            f"the dashboard needs {error.name}: install it with pip install 'raynas[dashboard]'."
        ) from None
    folder = place(a.runs_folder)
    if not folder.is_dir():
        raise UserError(f"expected a folder of runs; got {folder}, which is not there.")
    if not is_loopback(a.host):
        print(
            f"raynas: {a.host} can be reached from other machines: whoever can open this page sees "
            "all runs of the folder and can start searches on this machine. Nothing is encrypted "
            "and nobody is asked for a password. To see it from elsewhere, rather keep 127.0.0.1 "
            f"and use: ssh -L {a.port}:127.0.0.1:{a.port} THIS_MACHINE",
            file=sys.stderr,
        )
    served = app(folder, hosts(a.host))
    ip6 = ":" in a.host
    with socket.socket(socket.AF_INET6 if ip6 else socket.AF_INET) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((a.host, a.port))
        except OSError as error:
            raise UserError(
                f"{a.host}:{a.port} cannot be served ({error.strerror}): choose another --port."
            ) from None
        port = door.getsockname()[1]
        shown = f"[{a.host}]" if ip6 else a.host
        print(f"{folder}: http://{shown}:{port}/ (Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(served, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[door])
    return 0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hosts(host: str) -> frozenset[str]:
    """The names by which the page may be asked for: this machine's, and where it is bound."""
    names = {*LOOPBACK, host, f"[{host}]"}
    if not is_loopback(host):
        own = socket.gethostname()
        names |= {own, socket.getfqdn(), own.partition(".")[0]}
        try:
            found = {str(info[4][0]) for info in socket.getaddrinfo(own, None)}
            names |= {f"[{ip}]" if ":" in ip else ip for ip in found}
        except OSError:
            pass
    return frozenset(name.lower() for name in names)


COMMANDS = {"dashboard": dashboard}

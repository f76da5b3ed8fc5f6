"""`boxoffice gateway`: the simulated payment gateway as a process of its own, for integrators."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.options import DEFAULT_DATA_DIR, DataDirOption

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gateway)


def gateway(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8090,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    webhooks: Annotated[
        str, typer.Option(metavar="URL", help="Where to send signed webhooks: the API's /v1/webhooks/simulator.")
    ] = "",
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Serve the simulated gateway over HTTP, with its 3-D Secure page and its webhooks.

    It shares its ledger with the simulator inside the workers of the same data directory. To let workers ask it
    instead: BOXOFFICE_GATEWAY__KIND=http and BOXOFFICE_GATEWAY__URL=http://127.0.0.1:8090.
    """
    import os

    from boxoffice.settings import load_settings
    from boxoffice.telemetry import log
    from ops.bank.server import serve

    os.environ["BOXOFFICE_DATA_DIR"] = str(data_dir)
    settings = load_settings()
    log.configure(settings)
    serve(settings, host, port, webhooks)

"""`boxoffice shop`: the reference shop front, a process of its own that knows the API alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.options import DEFAULT_DATA_DIR, DataDirOption

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(shop)


def shop(
    port: Annotated[int, typer.Option(envvar="SHOP_PORT", min=1, max=65535, help="Port to listen on.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    api: Annotated[str, typer.Option(metavar="URL", help="Where the API is.")] = "http://127.0.0.1:8000",
    url: Annotated[
        str, typer.Option(metavar="URL", help="Where browsers reach the shop. Default: this machine, at the port.")
    ] = "",
    secret_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The key that books, reads and refunds. Default: DATA_DIR/shop-secret.key."),
    ] = None,
    browse_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page's own key. Default: DATA_DIR/shop-browse.key.")
    ] = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Serve the demo shop: a page for buyers, and a shop's back end. `boxoffice up` starts one.

    It needs nothing but the API: `boxoffice seed --demo-shop URL` makes its keys, and so does `boxoffice keys create`.
    """
    from ops.seed_shop import BROWSE_KEY, SHOP_KEY, origins_of
    from ops.shop.server import serve
    from ops.shop.terms import Terms

    def key(given: Path | None, name: str) -> str:
        path = given or data_dir / name
        try:
            return path.read_text().strip()
        except OSError as error:
            raise typer.BadParameter(f"There is no key in {path}: {error.strerror}.") from None

    origins = origins_of(url.rstrip("/") or f"http://127.0.0.1:{port}")
    terms = Terms(api.rstrip("/"), key(secret_key_file, SHOP_KEY), key(browse_key_file, BROWSE_KEY), origins)
    serve(terms, host, port)

"""Small files beside the simulator's ledger: whoever comes first makes one, complete or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from boxoffice.settings import Settings

__all__ = ["gateway_token", "made_once", "webhook_secrets"]


def made_once(path: Path, text: str) -> str:
    """What is in the file; `text` if it was not there. Only its owner may read it."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600)
    draft.write_text(text)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text().strip()


def gateway_token(settings: Settings) -> str:
    """What a `boxoffice gateway` wants to be shown: the configured one, or one that the processes on a data directory
    share. Whoever moves its money could otherwise do so unasked, from any page in a browser on the same machine."""
    configured = "" if settings.gateway.kind == "stripe" else settings.gateway.api_key
    return configured or made_once(settings.data_dir / "gateway.token", secrets.token_urlsafe(32))


def webhook_secrets(settings: Settings) -> tuple[str, ...]:
    """Whoever signs with one of these is the simulator; it signs with the first. Without a configured one it is a secret that
    the processes on a data directory share; where that cannot be kept there is none, and nobody is believed."""
    gateway = settings.gateway
    if gateway.webhook_secret:
        return gateway.webhook_secrets
    try:
        shared = made_once(settings.data_dir / "gateway.webhook", f"whsec_{secrets.token_urlsafe(32)}")
    except OSError:
        return gateway.webhook_secrets
    return (shared, *gateway.webhook_secrets)

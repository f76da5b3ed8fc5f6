"""The audit by itself, of whatever runs."""

from __future__ import annotations

from boxoffice.office import open_box_office
from boxoffice.settings import Settings
from ops.rush.audit import Witness, audit
from ops.rush.findings import Findings
from ops.rush.rest import wait_for_rest

__all__ = ["audit_alone"]


async def audit_alone(settings: Settings, wait_s: float) -> Findings:
    """Wait for rest, then look. A booking that is held and has time left is no unrest; a parked one neither."""
    async with open_box_office(settings, redis_retries=3) as office:
        await office.payments_audit.check_gateway()
        unrest = await wait_for_rest(office, wait_s, holds_too=False)
        return await audit(office, Witness(unrest=unrest))

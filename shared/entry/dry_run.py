"""Dry runs and what a person may choose, as JSON: with quota, and with what machines cost."""

from datetime import timedelta
from typing import Any

from shared.config import Prices
from shared.domain.access import Actor
from shared.domain.dry_run import Decision, DryRun, Quota
from shared.domain.machine_types import parse_machine_type
from shared.domain.policy import Policy
from shared.entry.representation import workspace_json


def dry_run_json(run: DryRun, policy: Policy, prices: Prices) -> dict[str, Any]:
    """Return what a request would do. Ids that would be given out only then are null."""
    workspace = workspace_json(run.workspace, policy)
    if not workspace["id"]:
        workspace |= {"id": None, "instance_name": None}
    if run.decision is Decision.BEGIN:
        workspace["operation"]["id"] = None
    return {
        "dry_run": True,
        "decision": run.decision.value,
        "kind": run.kind.value if run.kind else None,
        "steps": [phase.value for phase in run.phases],
        "workspace": workspace,
        "quota": quota_json(run.quota),
        "cost": {**_machine_type_json(run.workspace.machine_type, prices), "runs": run.runs},
        "loses": [{"what": loss.what.value, "why": loss.why} for loss in run.losses],
    }


def me_json(actor: Actor, quota: Quota, policy: Policy, prices: Prices) -> dict[str, Any]:
    """Return who a person is here, what they use of their limits, and what they may choose."""
    return {
        "owner_id": actor.id,
        "email": actor.email,
        "is_admin": actor.admin,
        "quota": quota_json(quota),
        "choices": {
            "machine_types": [_choice_json(name, prices) for name in policy.machine_types],
            "default_machine_type": policy.default_machine_type,
            "zones": list(policy.zones),
            "image_tags": list(policy.image_tags),
            "default_image_tag": policy.default_image_tag,
        },
        "limits": {
            "keep_awake_most_seconds": int(policy.keep_awake_most.total_seconds()),
            "idle_seconds": _seconds(policy.idle_after),
            "retention_seconds": _seconds(policy.retention),
            "home_disk_most_gb": policy.home_disk_max_gb,
        },
    }


def quota_json(quota: Quota) -> dict[str, Any]:
    """Return how much of each limit is used."""
    return {
        "workspaces": {"used": quota.workspaces, "most": quota.limits.workspaces},
        "running": {"used": quota.running, "most": quota.limits.running},
    }


def _choice_json(name: str, prices: Prices) -> dict[str, Any]:
    described = _machine_type_json(name, prices)
    parsed = parse_machine_type(name)
    del described["machine_type"]
    return {
        "name": name,
        **described,
        "suspendable": parsed is None or not parsed.why_not_suspendable,
    }


def _machine_type_json(name: str, prices: Prices) -> dict[str, Any]:
    """Return a machine type as far as its name says, with its price if that is configured."""
    parsed, price = parse_machine_type(name), prices.per_hour.get(name)
    return {
        "machine_type": name,
        "cpus": parsed.processors if parsed else None,
        "memory_gb": parsed.memory_gb if parsed else None,
        "price_per_hour": {"amount": price, "currency": prices.currency} if price else None,
    }


def _seconds(time: timedelta | None) -> int | None:
    return None if time is None else int(time.total_seconds())

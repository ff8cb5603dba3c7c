"""Who may do what to an instance: its IAM policy, as Compute keeps and checks it.

Sources: IAM, "Policy" and "Policy versions"; Compute's reference of ``instances.getIamPolicy`` and
``setIamPolicy``; answers quoted in public issue reports. Roles and accounts are not looked up.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from localcloud.services.compute import errors
from localcloud.services.compute.parts import SharedParts
from localcloud.services.compute.resources import Instance, Json, new_fingerprint
from localcloud.services.compute.validation import member, objects

_VERSIONS = (0, 1, 3)
_WITH_CONDITIONS = 3
_ROLE = re.compile(r"(roles|(projects|organizations)/[^/]+/roles)/[A-Za-z0-9_.]+")
_MEMBER = re.compile(
    r"(deleted:)?(user|serviceAccount|group):[^\s:@]+@[^\s:@]+|domain:[^\s:@]+"
    r"|principal(Set)?://\S+"
)
_MOST_MEMBERS = 1_500


class Policies:
    """The policies of a fleet's instances. Each ends with its instance."""

    def __init__(self, parts: SharedParts) -> None:
        self._parts = parts
        self._instances = parts.inventory.instances

    def get(self, zone: str, name: str, *, version: int = 1) -> Json:
        """Return an instance's policy.

        In a version below 3, bindings with a condition come without it, and with another role that
        says so.

        Raises:
            ComputeError: 404; 400 for a version that does not exist.
        """
        instance = self._instances.get(zone, name)
        if version not in _VERSIONS:
            raise _invalid("optionsRequestedPolicyVersion", version)
        self._parts.faults.refuse_instance_call("instances.getIamPolicy", instance)
        shown = copy.deepcopy(instance.policy)
        if version < _WITH_CONDITIONS:
            shown["bindings"] = [_without_condition(each) for each in shown["bindings"]]
        shown["version"] = _version_of(shown)
        if number := self._parts.faults.policy_race(instance):
            _add_somebody(instance, number)
        return shown

    def set(self, zone: str, name: str, body: Mapping[str, Any]) -> Json:
        """Replace an instance's policy, and return the new one.

        With an ``etag`` only if it is still the one that has it. Without one it is replaced in any
        case, conditions included.

        Raises:
            ComputeError: 404; 409 for a policy that has changed meanwhile; 400 for what IAM does
                not accept.
        """
        instance = self._instances.get(zone, name)
        self._parts.faults.refuse_instance_call("instances.setIamPolicy", instance)
        wanted = member(body, "policy", dict, "resource")
        version = wanted.get("version") or 0
        if version not in _VERSIONS:
            raise _invalid("policy.version", version)
        bindings = list(_checked(objects(wanted, "bindings", "policy"), instance))
        conditional = [each for each in bindings if "condition" in each]
        etag = wanted.get("etag")
        if etag and etag != instance.policy["etag"]:
            raise errors.stale_policy()
        keeps = etag and _version_of(instance.policy) == _WITH_CONDITIONS
        if (conditional or keeps) and version != _WITH_CONDITIONS:
            raise errors.old_policy_version()
        instance.policy = {**wanted, "bindings": bindings, "etag": new_fingerprint()}
        instance.policy["version"] = _version_of(instance.policy)
        return copy.deepcopy(instance.policy)


def _version_of(policy: Json) -> int:
    conditional = any("condition" in each for each in policy["bindings"])
    return _WITH_CONDITIONS if conditional else 1


def _without_condition(binding: Json) -> Json:
    if "condition" not in binding:
        return binding
    mark = hashlib.sha256(repr(binding["condition"]).encode()).hexdigest()[:20]
    return {"role": f"{binding['role']}_withcond_{mark}", "members": binding["members"]}


def _checked(bindings: list[Json], instance: Instance) -> Iterator[Json]:
    """Yield the bindings as IAM keeps them; empty ones are dropped.

    Members that are the same account are one, in the form that was there first.
    """
    present = [each for binding in instance.policy["bindings"] for each in binding["members"]]
    for binding in bindings:
        role, condition = binding.get("role"), binding.get("condition")
        if not isinstance(role, str) or not _ROLE.fullmatch(role):
            raise errors.bad_policy(f"Role {role} is not supported for this resource.")
        if condition is not None and not (condition.get("expression") and condition.get("title")):
            raise errors.bad_policy("A condition must have a title and an expression.")
        members: dict[str, str] = {}
        for each in binding.get("members") or ():
            if not isinstance(each, str) or not _MEMBER.fullmatch(each):
                raise errors.bad_policy('Policy members must be of the form "<type>:<value>".')
            if each.startswith("deleted:") and each not in present:
                raise errors.bad_policy(f"Deleted principal {each} cannot be added.")
            members.setdefault(_account_of(each), each)
        if members:
            kept = {"role": role, "members": list(members.values())}
            yield kept if condition is None else {**kept, "condition": condition}
    if sum(len(each.get("members") or ()) for each in bindings) > _MOST_MEMBERS:
        raise errors.bad_policy("The number of members in the policy is larger than 1,500.")


def _account_of(member: str) -> str:
    """Return what two members have in common that are the same account.

    Addresses are the same in any case, and those at googlemail.com are those at gmail.com.
    """
    if member.startswith("principal"):
        return member
    return re.sub(r"@googlemail\.com$", "@gmail.com", member.lower())


def _add_somebody(instance: Instance, number: int) -> None:
    """Change a policy as somebody else would."""
    somebody = {"role": "roles/compute.viewer", "members": [f"user:somebody-{number}@example.com"]}
    instance.policy["bindings"].append(somebody)
    instance.policy["etag"] = new_fingerprint()


def _invalid(name: str, version: object) -> errors.ComputeError:
    return errors.invalid_value(name, version, "The policy version must be 0, 1 or 3.")

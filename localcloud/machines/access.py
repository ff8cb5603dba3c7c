"""Who may enter a machine, by the IAM policy of its instance."""

from __future__ import annotations

from localcloud.services.compute.resources import Instance

_ROLES = frozenset({"roles/compute.osLogin", "roles/compute.osAdminLogin"})
_KINDS = frozenset({"user", "serviceAccount"})


def who_may_enter(instance: Instance) -> set[str]:
    """Return the e-mail addresses, in lower case, of all who may log in to an instance.

    They are the people and service accounts with a role of OS Login. A binding with a condition
    lets in nobody: conditions are not evaluated here. Groups and domains are not known here.
    """
    found = set()
    for binding in instance.policy["bindings"]:
        if binding["role"] in _ROLES and not binding.get("condition"):
            for member in binding["members"]:
                kind, _, email = member.partition(":")
                if kind in _KINDS:
                    found.add(email.lower())
    return found

"""Changes of an instance's IAM policy: who may log in to it.

Everything else in a policy is sent back as it came. Members of others are never written anew: IAM
gives addresses in the case that their accounts have, and refuses some of them in another
(hashicorp/terraform-provider-google, issue 4276). Nor is a ``deleted:user:…?uid=…`` of an account
that was deleted, which IAM takes back only as it is.
"""

from google.cloud.compute_v1 import types

from shared.domain.machine_access import LOGIN_ROLE

# The version that has conditions. A policy that is read in another one comes without them (source:
# IAM, "Policy versions").
POLICY_VERSION = 3


def with_login(policy: types.Policy, member: str) -> int:
    """Let a member log in. Returns 1, or 0 if they may already.

    A binding with a condition does not count: it may end.
    """
    bindings = _logins(policy)
    if any(_same(each, member) for binding in bindings for each in binding.members):
        return 0
    if bindings:
        bindings[0].members.append(member)
    else:
        policy.bindings.append(types.Binding(role=LOGIN_ROLE, members=[member]))
    _keep_conditions(policy)
    return 1


def without_logins(policy: types.Policy) -> int:
    """Let nobody log in, except by a binding with a condition. Returns how many members could."""
    removed = sum(len(binding.members) for binding in _logins(policy))
    policy.bindings = [binding for binding in policy.bindings if not _is_login(binding)]
    _keep_conditions(policy)
    return removed


def _keep_conditions(policy: types.Policy) -> None:
    """Say in which version the policy is: IAM drops conditions from one of a lower version."""
    if any(binding.condition.expression for binding in policy.bindings):
        policy.version = POLICY_VERSION


def _logins(policy: types.Policy) -> list[types.Binding]:
    return [binding for binding in policy.bindings if _is_login(binding)]


def _is_login(binding: types.Binding) -> bool:
    return binding.role == LOGIN_ROLE and not binding.condition.expression


def _same(one: str, other: str) -> bool:
    """Say whether two members are the same. Addresses are compared as ASCII, in any case."""
    return one.isascii() and other.isascii() and one.lower() == other.lower()

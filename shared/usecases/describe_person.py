"""What a person uses of their own limits."""

from shared.domain.access import Actor
from shared.domain.dry_run import Quota, quota_of
from shared.domain.owner_limits import with_proven_domain
from shared.domain.policy import Policy
from shared.usecases.records import Records


def quota_in_use(records: Records, policy: Policy, actor: Actor) -> Quota:
    """Return how many workspaces the person has and how many run, with their limits. One read.

    The limits are those of the organisation that the person proves to belong to in this request.

    Raises:
        UnavailableError
    """
    owner = with_proven_domain(records.store.get_owner(actor.id).record, actor)
    return quota_of(owner, actor.email, policy)

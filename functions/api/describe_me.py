"""``GET /me``: who the caller is here, what they use of their limits, and what they may choose.

People call it. Changes nothing; costs one read. If the database does not answer: 503 with
``Retry-After``.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.dry_run import me_json
from shared.entry.http import Answer, actor_of, endpoint
from shared.usecases.describe_person import quota_in_use

HUB = hub("store", "identity")


@endpoint(HUB, "GET /me")
def describe_me(request: Request) -> Answer:
    """Answer 200 with the person, their quota and their choices."""
    who = actor_of(request, HUB)
    quota = quota_in_use(HUB.records, HUB.policy, who)
    return Answer(200, me_json(who, quota, HUB.policy, HUB.settings.prices), conditional=True)

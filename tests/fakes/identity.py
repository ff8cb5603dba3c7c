"""Identity by tokens that a test makes up."""

from dataclasses import dataclass, field
from typing import TypeVar

from shared.domain.errors import NotAuthenticatedError
from shared.ports import Identity, Machine, Person

T = TypeVar("T")


@dataclass
class FakeIdentity(Identity):
    """``Identity`` where ``Bearer <token>`` is whoever the test says it is, and everything else is nobody."""

    people: dict[str, Person] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)

    def person(self, authorization: str | None) -> Person:
        """See the port."""
        return self._known(self.people, authorization)

    def machine(self, authorization: str | None) -> Machine:
        """See the port."""
        return self._known(self.machines, authorization)

    @staticmethod
    def _known(who: dict[str, T], authorization: str | None) -> T:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or token not in who:
            raise NotAuthenticatedError("The token is not valid.")
        return who[token]

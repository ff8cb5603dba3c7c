"""Identity by tokens that a test invents."""

from dataclasses import dataclass, field
from typing import TypeVar

from shared.domain.access import MachineIdentity, Person
from shared.domain.errors import NotAuthenticatedError
from shared.ports import Headers, Identity

T = TypeVar("T")


@dataclass
class FakeIdentity(Identity):
    """An ``Identity`` that knows the tokens which the test has set, and refuses all others."""

    people: dict[str, Person] = field(default_factory=dict)
    machines: dict[str, MachineIdentity] = field(default_factory=dict)

    def person(self, headers: Headers) -> Person:
        """See the port."""
        return self._known(self.people, headers)

    def machine(self, headers: Headers) -> MachineIdentity:
        """See the port."""
        return self._known(self.machines, headers)

    @staticmethod
    def _known(who: dict[str, T], headers: Headers) -> T:
        scheme, _, token = (headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or token not in who:
            raise NotAuthenticatedError("The token is not valid.")
        return who[token]

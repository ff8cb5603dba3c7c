"""Only the parts of Google's packages that the adapters use are imported."""

from __future__ import annotations

import pytest

from tests.processes import printed_by

ADAPTERS = {
    "shared.adapters.compute_machines": "google.cloud.compute_v1",
    "shared.adapters.firestore_store": "google.cloud.firestore_v1",
    "shared.adapters.cloud_tasks_jobs": "google.cloud.tasks_v2",
    "shared.adapters.pubsub_jobs": "google.pubsub_v1",
}
SERVICES = {"google.cloud.compute_v1": {"disks", "instances", "zone_operations"}}


@pytest.mark.parametrize(("adapter", "package"), ADAPTERS.items())
def test_an_adapter_imports_only_the_services_that_it_calls(adapter: str, package: str) -> None:
    """A version of a library that imports more, so that a start costs more, fails here."""
    loaded = printed_by(f"import sys, {adapter}; print(*sys.modules)").split()
    services = {
        name.removeprefix(f"{package}.services.").partition(".")[0]
        for name in loaded
        if name.startswith(f"{package}.services.")
    }
    assert f"{package}.types" in loaded
    assert services == SERVICES.get(package, set())


@pytest.mark.parametrize(("adapter", "package"), ADAPTERS.items())
def test_the_whole_package_can_be_imported_later_with_the_same_classes(
    adapter: str, package: str
) -> None:
    """It then has the same names and classes as after an ordinary import."""
    look = f"""
import importlib
package = importlib.import_module("{package}")
types = importlib.import_module("{package}.types")
present = set(package.__all__) & set(dir(package))
print(sorted(present), sorted(name for name in present & set(types.__all__)
                              if getattr(package, name) is getattr(types, name)))
"""
    later, ordinary = printed_by(f"import {adapter}\n{look}"), printed_by(look)
    assert later == ordinary
    assert len(ordinary) > 100


def test_the_hand_written_client_works_beside_the_adapter() -> None:
    """Tests and the local cloud use it in the same process, whichever is imported first."""
    one = "import shared.adapters.firestore_store"
    other = "from google.cloud import firestore; firestore.Client"
    for first, second in ((one, other), (other, one)):
        assert not printed_by(f"{first}; {second}")


def test_messages_and_errors_can_be_pickled() -> None:
    """Their classes are found by name, as after the ordinary import."""
    assert printed_by("""
import pickle
from shared.adapters.compute_machines import types
from google.api_core import exceptions
print(pickle.loads(pickle.dumps(types.Instance(name="one"))).name)
print(repr(pickle.loads(pickle.dumps(exceptions.NotFound("gone")))))
from google.cloud import compute_v1
print(pickle.loads(pickle.dumps(compute_v1.Disk(name="two"))).name)
""").split("\n") == ["one", "NotFound('gone')", "two"]


def test_a_name_that_the_package_does_not_have_is_an_error() -> None:
    """It is the ordinary one, after the ordinary import."""
    assert printed_by("""
import shared.adapters
from google.cloud import tasks_v2
try:
    tasks_v2.NoSuchThing
except AttributeError as error:
    print(error)
print(tasks_v2.CloudTasksClient.__name__)
""").split("\n") == [
        "module 'google.cloud.tasks_v2' has no attribute 'NoSuchThing'",
        "CloudTasksClient",
    ]


def test_a_package_that_is_not_there_is_left_to_its_own_import() -> None:
    """The import that needs it then fails as usual, and says what is missing."""
    assert (
        printed_by("""
import sys
from shared.adapters.google_packages import defer
defer("google.no_such_package")
defer("shared.logs")  # a module, and no package
print("google.no_such_package" in sys.modules, "shared.logs" in sys.modules)
""")
        == "False False"
    )

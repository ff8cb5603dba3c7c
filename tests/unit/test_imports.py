"""Libraries are imported so that the garbage collector leaves them alone."""

from __future__ import annotations

import pytest

from tests.processes import printed_by


def test_what_is_imported_is_kept_out_of_collections() -> None:
    """A collection looks at what came later, and is enabled as before."""
    assert (
        printed_by("""
import gc, sys
from shared.imports import import_for_good
import_for_good("decimal", "http.client")
print("http.client" in sys.modules, gc.isenabled(), gc.get_freeze_count() > len(gc.get_objects()))
gc.disable()
import_for_good("html.parser")
print(gc.isenabled())
""")
        == "True True True\nFalse"
    )


def test_a_library_that_cannot_be_imported_fails_the_start() -> None:
    """The error is the import's own, and collections are enabled again."""
    assert (
        printed_by("""
import gc
from shared.imports import import_for_good
try:
    import_for_good("decimal", "no_such_library")
except ModuleNotFoundError as error:
    print(error.name, gc.isenabled())
""")
        == "no_such_library True"
    )


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_what_there_is_at_a_fork_stays_shared() -> None:
    """A collection in the server's child would write into every object, and so copy its memory."""
    assert (
        printed_by("""
import gc, os
import shared.imports
later = [[] for _ in range(10_000)]
before = gc.get_freeze_count()
if (child := os.fork()) == 0:
    os._exit(gc.get_freeze_count() - before > 10_000)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
        == "1"
    )

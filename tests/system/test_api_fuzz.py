"""Random requests, good and bad, made from the OpenAPI document: it describes every answer."""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from shared.domain.policy import Policy
from shared.entry.description import description

DESCRIBED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SEQUENCES = 15
CONFIG = {
    "seed": 1,
    # test_a_request_without_a_valid_token… tests the credentials.
    "generation": {"with-security-parameters": False},
    "checks": {
        # The gateway of the local cloud adds the developer's token to a request without one.
        "ignored_auth": {"enabled": False},
        # A DELETE is only accepted: the workspace exists until its machine and disks are gone.
        "use_after_free": {"enabled": False},
        # The answer to a used Idempotency-Key or to too many requests does not depend on the form
        # of the request.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "304", "401", "403", "404", "409", "410", "422", "429"]
        },
        "negative_data_rejection": {
            "expected-statuses": ["400", "401", "403", "404", "405", "414", "415", "422", "429"]
        },
    },
}


def read_api() -> Any:
    """Load the document with what it leaves to an installation: machine types, zones and sizes."""
    document = deepcopy(description())
    schemas = document["components"]["schemas"]
    schemas["MachineType"]["enum"] = [*Policy().machine_types, None]
    schemas["Zone"]["enum"] = [*Policy().zones, None]
    for spelling in ("home_disk_gb", "homeDiskGb"):
        schemas["NewMachine"]["properties"][spelling]["enum"] = [50, 100, 150, None]
    return schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(CONFIG))


API = read_api()
PUBLIC = API.exclude(tag="machines")
MACHINES = API.include(tag="machines")


def bounded(examples: int, **more: Any) -> settings:
    """Return settings that try this many examples, the same ones at every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


@pytest.fixture(scope="module")
def new_caller(cloud: RunningCloud) -> Iterator[Callable[[], Caller]]:
    """Make a new caller; its workspaces are deleted after the last test."""
    callers: list[Caller] = []

    def new() -> Caller:
        callers.append(Caller(cloud))
        return callers[-1]

    yield new
    for caller in callers:
        caller.leave()


class Caller:
    """A person who calls the public address, with the arguments of a schemathesis call."""

    def __init__(self, cloud: RunningCloud) -> None:
        token = cloud.token(f"{uuid.uuid4()}@example.com")
        self.person = ApiClient(cloud.address, token)
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"
        self.how: dict[str, Any] = {"base_url": cloud.address, "session": self.session}

    def leave(self) -> None:
        """Delete all workspaces, and do not wait for it."""
        for workspace in self.person.workspaces():
            # Not `delete`: a test may have deleted the workspace already.
            self.person.request("DELETE", f"/workspaces/{workspace['id']}")
        self.session.close()


@pytest.fixture(scope="module")
def caller(new_caller: Callable[[], Caller]) -> Caller:
    """The caller who owns the workspace."""
    return new_caller()


@pytest.fixture(scope="module")
def workspace(caller: Caller) -> dict[str, Any]:
    """The caller's workspace as it was when it became READY."""
    return caller.person.wait_until_settled(caller.person.create("theirs")["id"], "READY")


def unfit_checks(case: Any) -> list[Any]:
    """Return the checks that do not apply to this request.

    A made-up page token, both ``owner_id`` and ``all``, a time that is over or too far ahead, a
    ``dry_run`` that differs in query and body, a home that is larger already, or a zone that still
    has the machine of before, is refused though it is well-formed.
    """
    query, body = set(case.query or {}), set(case.body if isinstance(case.body, dict) else {})
    refused = "page_token" in query or {"owner_id", "all"} <= query
    may_not_fit = {"dry_run", "dryRun", "home_disk_gb", "homeDiskGb"} & body
    may_not_fit |= {"zone"} & body if case.path.endswith("/start") else set()
    if refused or may_not_fit or case.path.endswith(("/keep-awake", "/delete")):
        return [positive_data_acceptance]
    return []


def fuzz_test(operation_id: str) -> Any:
    """Return the test of one public operation."""

    # type: ignore: schemathesis has no types.
    @PUBLIC.include(operation_id=operation_id).parametrize()  # type: ignore[untyped-decorator]
    @bounded(100)
    def test(case: Any, caller: Caller, workspace: dict[str, Any]) -> None:
        """The answer to each request, good or bad, is as described, and never a 5xx.

        Good requests that do not delete are about a workspace that exists.
        """
        if (
            case.meta.generation.mode.is_positive
            and "workspace_id" in case.path_parameters
            and case.method != "DELETE"
        ):
            case.path_parameters["workspace_id"] = workspace["id"]
        case.call_and_validate(**caller.how, excluded_checks=unfit_checks(case))

    return test


# One test for all operations would give each of them the same id in pytest, and pytest-xdist would
# run only one of them.
for _operation in PUBLIC.get_all_operations():
    _id = _operation.ok().definition.raw["operationId"]
    globals()[f"test_any_{_id}_request_is_answered_as_described"] = fuzz_test(_id)


def test_any_sequence_of_requests_is_answered_as_described(
    new_caller: Callable[[], Caller],
) -> None:
    """A caller who follows the document's links from answer to answer gets described answers.

    Hypothesis gives up if the same requests are answered otherwise than before. Here they may be,
    because operations go on by themselves. Then it begins anew, with another seed.
    """
    tried: list[Caller] = []
    wrong: list[Exception] = []

    # type: ignore: the base class is made at run time.
    class Sequence(PUBLIC.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            self.caller = new_caller()
            tried.append(self.caller)

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            del case
            return self.caller.how

        def validate_response(self, response: Any, case: Any, **kwargs: Any) -> None:
            try:
                case.validate_response(
                    response, excluded_checks=unfit_checks(case), transport_kwargs=kwargs
                )
            except Exception as error:
                wrong.append(error)
                raise

        def teardown(self) -> None:
            self.caller.leave()

    for number in range(SEQUENCES):
        left = SEQUENCES - len(tried)
        if left <= 0:
            break
        with contextlib.suppress(FlakyStrategyDefinition):
            seed(number)(Sequence).run(settings=bounded(left, stateful_step_count=10))
        if wrong:
            raise wrong[0]


def check_described(response: requests.Response, method: str, path: str, **parameters: str) -> None:
    """Check that the document describes an answer of an operation."""
    API[path][method].Case(path_parameters=parameters).validate_response(response, checks=DESCRIBED)


JSON_LIKE = st.text('{}[]":,0123456789eE+-.nullN\\u ', max_size=60)


@pytest.mark.parametrize(
    "path", ["/workspaces", "/workspaces/{workspace_id}/start", "/workspaces/{workspace_id}/stop"]
)
@given(
    body=st.binary(max_size=200)
    | JSON_LIKE.map(str.encode)
    | JSON_LIKE.map(lambda text: text.encode("utf-16")),
    pieces=st.integers(0, 3),
)
@bounded(100)
def test_any_bytes_as_a_body_are_answered_as_described(
    path: str, body: bytes, pieces: int, caller: Caller, workspace: dict[str, Any]
) -> None:
    """Bodies that are not JSON despite their type get described answers, whole or in chunks."""
    url = caller.how["base_url"] + path.format(workspace_id=workspace["id"])
    size = max(1, -(-len(body) // max(1, pieces)))
    data = (body[at : at + size] for at in range(0, len(body), size)) if pieces else body
    response = caller.session.post(
        url, data=data, headers={"Content-Type": "application/json"}, timeout=30
    )
    check_described(response, "POST", path, workspace_id=workspace["id"])


ODD_IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.from_regex(
    r"__.*__", fullmatch=True
)
# A client removes "." and ".." from a path by itself.
NO_DOTS = ODD_IDS.filter(lambda odd_id: odd_id not in {".", ".."})


@given(odd_id=NO_DOTS)
@bounded(100)
def test_any_text_in_place_of_an_id_is_answered_404(odd_id: str, caller: Caller) -> None:
    """The answer is the 404 that the document describes."""
    response = caller.session.get(
        f"{caller.how['base_url']}/workspaces/{quote(odd_id, safe='')}/status", timeout=30
    )
    assert response.status_code == 404
    check_described(response, "GET", "/workspaces/{workspace_id}/status", workspace_id=odd_id)


FAR = timezone(timedelta(hours=23)), timezone(-timedelta(hours=23))
EXTREMES = [
    time.replace(tzinfo=zone)
    for time in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
    for zone in FAR
]
TIMES = st.datetimes() | st.datetimes(timezones=st.timezones()) | st.sampled_from(EXTREMES)
PARTS = st.tuples(TIMES.map(datetime.isoformat), st.uuids().map(str)) | st.lists(
    st.text() | st.integers(), max_size=3
)
FORGED = PARTS.map(json.dumps)
PAGE_TOKENS = st.text() | FORGED.map(str.encode).map(base64.urlsafe_b64encode).map(bytes.decode)


@given(token=PAGE_TOKENS)
@bounded(100)
def test_any_page_token_is_answered_as_described(token: str, caller: Caller) -> None:
    """A page token that the Hub has not issued is refused, or has no effect."""
    response = caller.session.get(
        f"{caller.how['base_url']}/workspaces", params={"page_token": token}, timeout=30
    )
    check_described(response, "GET", "/workspaces")


# In JSON, two surrogates that fit together are one character, which is allowed.
UNPAIRED = st.text(st.characters(categories=["Cc", "Cs"]), min_size=1).filter(
    lambda text: json.loads(json.dumps(text)) == text
)


@given(
    text=UNPAIRED,
    field=st.sampled_from(["repo", "branch"]),
)
@bounded(50)
def test_control_characters_and_surrogates_are_refused(
    text: str, field: str, new_caller: Callable[[], Caller]
) -> None:
    """The answer is the 400 that the document describes."""
    caller = new_caller()
    response = caller.session.post(
        f"{caller.how['base_url']}/workspaces",
        json={"name": "theirs", "metadata": {field: f"a{text}b"}},
        timeout=30,
    )
    assert response.status_code == 400
    check_described(response, "POST", "/workspaces")


@given(
    proof=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_categories=["Cc"])),
    bearer=st.booleans(),
)
@bounded(100)
def test_a_request_without_a_valid_token_is_answered_401(
    proof: str, bearer: bool, cloud: RunningCloud
) -> None:
    """Any text in place of a token gets the 401 that the document describes."""
    sent = (f"Bearer {proof}" if bearer else proof).strip().encode("latin-1")
    response = requests.get(
        f"{cloud.address}/workspaces", headers={"Authorization": sent}, timeout=30
    )
    assert response.status_code == 401
    check_described(response, "GET", "/workspaces")


@pytest.fixture(scope="module")
def machine(cloud: RunningCloud, new_caller: Callable[[], Caller]) -> tuple[str, requests.Session]:
    """A workspace's id, and a session with the token of its machine."""
    person = new_caller().person
    workspace = person.wait_until_settled(person.create("theirs")["id"], "READY")
    instance = next(one for one in cloud.machines() if one["name"] == workspace["instance_name"])
    metadata = f"{cloud.state['services']['identity']}/machines/{instance['id']}/computeMetadata/v1"
    token = requests.get(
        f"{metadata}/instance/service-accounts/default/identity",
        params={"audience": cloud.function_url("report_workspace"), "format": "full"},
        headers={"Metadata-Flavor": "Google"},
        timeout=30,
    ).text
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    return workspace["id"], session


@MACHINES.parametrize()  # type: ignore[untyped-decorator]
@bounded(100)
def test_any_report_is_answered_as_described(
    case: Any, cloud: RunningCloud, machine: tuple[str, requests.Session]
) -> None:
    """The answer to a machine's report, good or bad, is as described, and never a 5xx."""
    workspace_id, session = machine
    if case.meta.generation.mode.is_positive:
        case.path_parameters["workspace_id"] = workspace_id
    case.call_and_validate(base_url=cloud.function_url("report_workspace"), session=session)

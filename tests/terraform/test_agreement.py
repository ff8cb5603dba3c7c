"""What the Terraform module says agrees with the catalogue, the index file and the code."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from localcloud.catalogue import EVERYONE, ROOT, read_catalogue
from shared import logs
from shared.adapters.compute_instance import IAP_TAG
from shared.config import EMULATORS, read_settings
from shared.domain.changes import Change, finish
from shared.domain.workspace import OperationKind, Status
from shared.usecases.change_workspace import log_change
from tests.fakes.records import A_PROBLEM, NOW, a_workspace, an_operation
from tests.terraform.module import (
    MODULE,
    REWRITE,
    SNAPSHOT,
    blocks,
    local_values,
    named,
    resources,
    snapshot,
)
from tests.unit.test_docs import Recording, required

CATALOGUE = read_catalogue()
RESOURCES = resources()
LOCALS = local_values()
PAGE = MODULE / "README.md"

# What each method of Compute Engine's clients needs. Source: the API's reference, "IAM Permissions"
# of each method.
PERMISSIONS = {
    "DisksClient.aggregated_list": "compute.disks.list",
    "DisksClient.delete_unary": "compute.disks.delete",
    "DisksClient.get": "compute.disks.get",
    "DisksClient.set_labels_unary": "compute.disks.setLabels",
    "InstancesClient.aggregated_list": "compute.instances.list",
    "InstancesClient.delete_unary": "compute.instances.delete",
    "InstancesClient.get": "compute.instances.get",
    "InstancesClient.get_serial_port_output": "compute.instances.getSerialPortOutput",
    "InstancesClient.insert_unary": "compute.instances.create",
    "InstancesClient.resume_unary": "compute.instances.resume",
    "InstancesClient.set_disk_auto_delete_unary": "compute.instances.setDiskAutoDelete",
    "InstancesClient.set_labels_unary": "compute.instances.setLabels",
    "InstancesClient.set_metadata_unary": "compute.instances.setMetadata",
    "InstancesClient.start_unary": "compute.instances.start",
    "InstancesClient.stop_unary": "compute.instances.stop",
    "InstancesClient.suspend_unary": "compute.instances.suspend",
    "ZoneOperationsClient.get": "compute.zoneOperations.get",
}
# What an insert needs for what it says of the instance (shared/adapters/compute_instance.py),
# reviewed by hand.
INSERT = {
    "compute.disks.create": "the boot disk and a new home disk",
    "compute.disks.setLabels": "their labels",
    "compute.disks.update": "a home disk that is to outlive a machine made by hand (setDiskAutoDelete)",
    "compute.disks.use": "a home disk that exists",
    "compute.images.useReadOnly": "HUB_BOOT_IMAGE may be an image of the project",
    "compute.instances.setLabels": "labels",
    "compute.instances.setMetadata": "user-data and the rest of the metadata",
    "compute.instances.setServiceAccount": "the machines' account",
    "compute.instances.setTags": "the network tag",
    "compute.subnetworks.use": "the interface",
    "compute.subnetworks.useExternalIp": "HUB_EXTERNAL_ADDRESS",
}


def strings(expression: str) -> set[str]:
    """Return the strings in an expression."""
    return set(re.findall(r'"([^"]*)"', expression))


# Functions and their environment


def test_every_function_is_deployed_once() -> None:
    """One resource deploys the whole catalogue, each function under its own name, and one more builds the image of all."""
    deploying = [
        address
        for address in RESOURCES
        if re.match(r"google_(cloudfunctions|cloud_run_(v2_)?service\.)", address)
    ]
    assert deploying == [
        "google_cloudfunctions2_function.build",
        "google_cloud_run_v2_service.this",
    ]
    function = RESOURCES["google_cloud_run_v2_service.this"]
    assert function["for_each"] == "local.functions"
    assert LOCALS["functions"] == "local.catalogue.functions"
    assert LOCALS["catalogue"] == 'yamldecode(file("${local.root}/functions/catalogue.yaml"))'
    [build] = RESOURCES["google_cloudfunctions2_function.build"]["build_config"]
    assert build["environment_variables"] == {
        "GOOGLE_FUNCTION_SOURCE": f'local.functions["{build["entry_point"]}"].source'
    }
    assert CATALOGUE[build["entry_point"]].runs_as == "none"


def test_another_build_is_another_image_in_the_same_apply() -> None:
    """What the build made is read after it: by way of a resource that is made anew with it, so that nothing is known before."""
    triggers = RESOURCES["terraform_data.build"]["triggers_replace"]
    build = "google_cloudfunctions2_function.build"
    assert triggers == {
        "function": f"{build}.id",
        "runtime": f"{build}.build_config[0].runtime",
        "source": "google_storage_bucket_object.source.name",
    }
    read = {
        f"{kind}.{name}": body
        for block in blocks("data")
        for kind, of in block.items()
        for name, body in of.items()
    }
    service = read["google_cloud_run_v2_service.build"]
    assert service["name"] == f'terraform_data.build.id == "" ? null : {build}.name'
    image = read["google_artifact_registry_docker_image.functions"]
    assert (
        "data.google_cloud_run_v2_service.build.template[0].containers[0].image"
        in image["image_name"]
    )
    [template] = RESOURCES["google_cloud_run_v2_service.this"]["template"]
    assert (
        template["containers"][0]["image"]
        == "data.google_artifact_registry_docker_image.functions.self_link"
    )


def test_an_image_that_every_function_can_run_has_its_system_layer() -> None:
    """One that is built for automatic updates runs only where the platform puts the layer under it."""
    [build] = RESOURCES["google_cloudfunctions2_function.build"]["build_config"]
    assert "on_deploy_update_policy" in build
    assert "automatic_update_policy" not in build


def test_the_functions_settings_are_the_catalogues() -> None:
    """Memory, time, concurrency and instances are what was tested, not the platform's defaults."""
    service = RESOURCES["google_cloud_run_v2_service.this"]
    [template] = service["template"]
    [container], [scaling] = template["containers"], template["scaling"]
    [resources_] = container["resources"]
    assert service["ingress"] == "local.ingress[each.key]"
    assert (resources_["limits"]["memory"], resources_["cpu_idle"]) == (
        "${each.value.memory_mib}Mi",
        True,
    )
    assert template["timeout"] == "${each.value.timeout_seconds}s"
    assert template["max_instance_request_concurrency"] == "each.value.concurrency"
    assert scaling["max_instance_count"] == "local.max_instances[each.key]"
    assert LOCALS["max_instances"] == (
        "{for name, function in local.functions : name => min(function.max_instances, var.max_instances)}"
    )
    assert template["service_account"] == "google_service_account.group[each.value.runs_as].email"


def test_a_function_is_told_which_one_it_is_as_in_the_local_cloud() -> None:
    """The same names and values, with the folder that the builder puts the source in; settings and nothing else beside them."""
    [template] = RESOURCES["google_cloud_run_v2_service.this"]["template"]
    [env] = template["containers"][0]["dynamic"]
    assert env["env"]["for_each"] == "merge(local.environment, local.process[each.key])"
    said = dict(
        re.findall(r"([A-Z_]+) = (.*?)(?=, [A-Z_]+ = |}})", LOCALS["process"].partition("=> {")[2])
    )
    assert said == {
        "FUNCTION_SIGNATURE_TYPE": 'function.trigger == "event" ? "cloudevent" : "http"',
        "FUNCTION_SOURCE": '"/workspace/${function.source}"',
        "FUNCTION_TARGET": "name",
        "PYTHONPATH": '"/workspace"',
        "THREADS": "tostring(function.concurrency)",
    }
    for function in CATALOGUE.functions:
        assert function.environment("/workspace") == {
            "FUNCTION_SIGNATURE_TYPE": "cloudevent" if function.trigger == "event" else "http",
            "FUNCTION_SOURCE": f"/workspace/{function.source}",
            "FUNCTION_TARGET": function.name,
            "PYTHONPATH": "/workspace",
            "THREADS": str(function.concurrency),
        }


def decided() -> set[str]:
    """Return the variables that the module decides itself."""
    return set(re.findall(r"\b([A-Z][A-Z_]+) = ", LOCALS["environment"]))


def read_by_the_code() -> set[str]:
    """Return the variables that the code reads, but for those of local servers."""
    environment = Recording(required())
    read_settings(environment)
    return environment.asked - set(EMULATORS)


def test_every_variable_that_the_code_reads_is_set_and_no_other() -> None:
    """A new setting reaches the functions, and a removed one is not set for nothing."""
    assert decided() | set(LOCALS["tunable"]) == read_by_the_code()


def test_what_may_be_set_is_what_the_module_does_not_decide() -> None:
    """A setting cannot overrule the module, and each of the others can be set, in alphabetical order and once."""
    assert LOCALS["tunable"] == sorted(read_by_the_code() - decided())


# Records


def test_the_indexes_are_those_of_the_file() -> None:
    """The index file, which the tests hold to the store's queries, is taken whole."""
    assert LOCALS["firestore"] == 'jsondecode(file("${local.root}/firestore.indexes.json"))'
    index, field = (
        RESOURCES["google_firestore_index.this"],
        RESOURCES["google_firestore_field.this"],
    )
    assert re.search(r"for index in local\.firestore\.indexes : .*=> index\}", index["for_each"])
    [fields] = index["dynamic"]
    assert fields["fields"]["for_each"] == "each.value.fields"
    assert fields["fields"]["content"] == [
        {"field_path": "fields.value.fieldPath", "order": "fields.value.order"}
    ]
    assert (index["collection"], index["query_scope"]) == (
        "each.value.collectionGroup",
        "each.value.queryScope",
    )
    assert field["for_each"].startswith("{for field in local.firestore.fieldOverrides : ")
    assert (field["collection"], field["field"]) == (
        "each.value.collectionGroup",
        "each.value.fieldPath",
    )


# Machines


def compute_calls() -> set[str]:
    """Return each method that the adapter calls on one of Compute's clients, as `InstancesClient.get`."""
    tree = ast.parse((ROOT / "shared/adapters/compute_machines.py").read_text(encoding="utf-8"))
    clients: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            [target] = node.targets
            pairs = (
                zip(target.elts, node.value.elts, strict=True)
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                else [(target, node.value)]
            )
            for name, value in pairs:
                made = re.match(r"compute_v1\.(\w+Client)\(", ast.unparse(value))
                client = made[1] if made else clients.get(ast.unparse(value))
                if client:
                    clients[ast.unparse(name)] = client
    called = {
        f"{clients[ast.unparse(node.value)]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in clients
    }
    assert {call.partition(".")[0] for call in called} == set(
        re.findall(r"compute_v1\.(\w+Client)\(", ast.unparse(tree))
    )
    return called


def test_the_workers_role_has_what_the_code_calls_and_nothing_else() -> None:
    """A new call without its permission fails in production only, so it fails here; so does a permission too many."""
    assert compute_calls() == set(PERMISSIONS)
    assert RESOURCES["google_project_iam_custom_role.operate"]["permissions"] == sorted(
        {*PERMISSIONS.values(), *INSERT}
    )


def test_the_status_function_may_only_look() -> None:
    """What it asks of a machine is one call, and its role has that permission only."""
    asked = re.findall(
        r"\bmachines\(\)\.(\w+)",
        (ROOT / "shared/usecases/ask_workspaces.py").read_text(encoding="utf-8"),
    )
    assert set(asked) == {"get"}
    assert RESOURCES["google_project_iam_custom_role.look"]["permissions"] == [
        "compute.instances.get"
    ]


def test_rights_on_machines_end_at_the_hubs_own_names() -> None:
    """The conditions name the prefixes that the code gives to instances, their boot disks and home disks."""
    workspace = a_workspace(id="the-id", home_disk=None)
    create = (ROOT / "shared/domain/lifecycle.py").read_text(encoding="utf-8")
    [instance] = re.findall(r'name = f"([a-z-]+)\{workspace_id\}"', create)
    home = workspace.disk_name.removesuffix("the-id")
    assert re.findall(r'startsWith\("([^"]*)"\)', LOCALS["own_instances"]) == [instance]
    assert re.findall(r'startsWith\("([^"]*)"\)', LOCALS["own_disks"]) == [home, instance]
    [look] = RESOURCES["google_project_iam_member.look"]["condition"]
    assert "${local.own_instances}" in look["expression"]
    [operate] = RESOURCES["google_project_iam_member.operate"]["dynamic"]
    [content] = operate["condition"]["content"]
    assert "${local.own_instances}" in content["expression"]
    assert "${local.own_disks}" in content["expression"]


def test_the_firewall_lets_iap_in_to_the_machines_tag() -> None:
    """The tag that the code gives to machines is the firewall's target, and nobody but IAP is a source."""
    assert LOCALS["machine_tag"] == IAP_TAG
    firewalls = [
        body
        for address, body in RESOURCES.items()
        if address.startswith("google_compute_firewall.")
    ]
    assert [(body["target_tags"], body["source_ranges"]) for body in firewalls] == [
        (["local.machine_tag"], ["35.235.240.0/20"])
    ]


# Who may do what


def test_functions_are_called_by_whom_the_catalogue_says() -> None:
    """Everybody gets through to code that checks the caller, else exactly one of the service accounts."""
    service = RESOURCES["google_cloud_run_v2_service.this"]
    assert service["invoker_iam_disabled"] == f'each.value.invoker == "{EVERYONE}"'
    assert LOCALS["guarded"] == (
        f'{{for name, function in local.functions : name => function if function.invoker != "{EVERYONE}"}}'
    )
    invokers = [
        address for address, body in RESOURCES.items() if "run.invoker" in str(body.get("role"))
    ]
    assert invokers == ["google_cloud_run_v2_service_iam_member.invoker"]
    binding = RESOURCES[invokers[0]]
    assert binding["for_each"] == "local.guarded"
    assert binding["member"] == "google_service_account.invoker[each.value.invoker].member"
    assert RESOURCES["google_service_account.invoker"]["for_each"] == "local.invokers"
    assert LOCALS["invokers"] == "toset(local.catalogue.invokers)"
    assert {function.invoker for function in CATALOGUE.functions} == {EVERYONE, *CATALOGUE.invokers}


def test_only_functions_of_people_and_machines_are_for_everybody() -> None:
    """No binding is for everybody, which organisations forbid, and what the platform guards is never public."""
    assert [
        address
        for address, body in RESOURCES.items()
        if re.search(r"all(Authenticated)?Users", str(body))
    ] == []
    everybodys = {
        function.source.split("/")[1]
        for function in CATALOGUE.functions
        if function.invoker == EVERYONE
    }
    assert everybodys == {"api", "callbacks"}


def users_of(*ports: str) -> set[str]:
    """Return the trust groups with a function that uses one of the ports."""
    return {
        function.runs_as
        for function in CATALOGUE.functions
        if any(
            f"HUB.{port}" in (ROOT / function.source).read_text(encoding="utf-8") for port in ports
        )
    }


def groups(name: str) -> set[str]:
    """Return the trust groups of a list in `iam.tf`."""
    everyone = {function.runs_as for function in CATALOGUE.functions}
    expression = LOCALS[name]
    if expression.startswith("setsubtract(local.groups, "):
        return everyone - strings(expression)
    assert expression.startswith("toset([")
    return strings(expression)


@pytest.mark.parametrize(
    ("names", "ports"),
    [
        (["stores"], ["store"]),
        (["publish"], ["provision_jobs"]),
        (["enqueue"], ["operation_jobs"]),
        (["look", "operate"], ["machines"]),
    ],
    ids=lambda each: each[0],
)
def test_each_trust_group_may_do_what_its_functions_do(names: list[str], ports: list[str]) -> None:
    """A group has the rights for a port exactly when one of its functions uses it."""
    assert set.union(*(groups(name) for name in names)) == users_of(*ports)


def test_only_workers_act_as_the_machines_account() -> None:
    """Whoever may act as an account can do all that it can."""
    acting = {
        address: body["for_each"]
        for address, body in RESOURCES.items()
        if body.get("service_account_id") == "google_service_account.machine.name"
    }
    assert acting == {"google_service_account_iam_member.operate_as_machine": "local.operate"}
    assert groups("operate") == {"workers"}


def test_the_machines_account_pulls_images_and_writes_logs_only() -> None:
    """Any program in a workspace can get its token."""
    roles = {
        address: body["role"]
        for address, body in RESOURCES.items()
        if body.get("member") == "google_service_account.machine.member"
    }
    assert roles == {
        "google_artifact_registry_repository_iam_member.machine": "roles/artifactregistry.reader",
        "google_project_iam_member.machine_logs": "roles/logging.logWriter",
    }


def test_nobody_has_a_primitive_role() -> None:
    """Owner, editor and viewer are for people."""
    roles = " ".join(str(body.get("role")) for body in RESOURCES.values())
    assert not re.search(r"roles/(owner|editor|viewer)\b", roles)


def test_no_resource_was_lost_or_added_unseen() -> None:
    """Each resource is in a file that is reviewed, with how many there are, and each binding with its role and member."""
    assert SNAPSHOT.read_text(encoding="utf-8") == snapshot(), f"If it is meant: {REWRITE}"


# What an upgrade leaves alone

# The arguments that a resource is made anew for. Source: the provider's documentation.
FIXED: Final = {
    "google_firestore_database.this": {"project", "name", "location_id", "type"},
    "google_artifact_registry_repository.workspaces": {
        "project",
        "location",
        "repository_id",
        "format",
    },
    "google_compute_network.this": {"project", "name", "auto_create_subnetworks", "count"},
    # A wider ip_cidr_range is a change in place; Compute refuses to delete a subnetwork that
    # machines are in.
    "google_compute_subnetwork.this": {"project", "region", "name", "network", "count"},
    "random_id.installation": {"byte_length", "keepers", "prefix"},
}
LASTING: Final = {"var.project_id", "var.region", "var.name"}  # another of these is another Hub


@pytest.mark.parametrize("address", FIXED)
def test_no_variable_makes_anew_what_holds_data(address: str) -> None:
    """Database, registry, network and the id that machines and disks are known by depend on what is never changed."""
    said = " ".join(
        str(value) for name, value in RESOURCES[address].items() if name in FIXED[address]
    )
    variables = set(re.findall(r"\bvar\.\w+", said))
    others = set(re.findall(r"\blocal\.\w+", said)) - {"local.own_network"}
    assert variables <= LASTING
    assert others == set()


def test_home_disks_and_machines_are_not_the_modules() -> None:
    """The Hub makes and deletes them: no apply can touch what people work on."""
    assert not [
        address for address in RESOURCES if re.match(r"google_compute_(instance|disk)\b", address)
    ]


def reached_from(address: str) -> set[str]:
    """Return all resources that must be there before this one: what it names, and what that names."""
    reached: set[str] = set()
    texts = [str(RESOURCES[address])]
    while texts:
        text = texts.pop()
        named = {f"local.{name}" for name in re.findall(r"\blocal\.(\w+)", text) if name in LOCALS}
        named |= set(re.findall(r"(?<![.\w])[a-z]+_\w+\.\w+", text)) & RESOURCES.keys()
        texts += [
            str(
                LOCALS[name.removeprefix("local.")]
                if name.startswith("local.")
                else RESOURCES[name]
            )
            for name in named - reached
        ]
        reached |= named
    return reached & RESOURCES.keys()


def test_nothing_is_asked_of_a_service_that_was_just_enabled() -> None:
    """For a minute some of Google Cloud does not know of it yet: a first apply would end there."""
    first = {"google_project_service.this", "random_id.installation", "time_sleep.services"}
    assert {
        address for address in RESOURCES if "time_sleep.services" not in reached_from(address)
    } == first


def test_no_right_is_given_to_an_account_that_was_just_made() -> None:
    """IAM answers 400, "does not exist", for a while: each binding comes after the wait for all accounts."""
    bindings = [address for address in RESOURCES if "_iam_member." in address]
    assert [
        address for address in bindings if "time_sleep.identities" not in reached_from(address)
    ] == []
    accounts = {
        address
        for address in RESOURCES
        if re.match(r"google_(service_account|project_service_identity)\.", address)
    }
    assert accounts <= reached_from("time_sleep.identities")


def test_the_build_waits_for_all_of_its_rights() -> None:
    """Half of the builds that start right after their rights fail."""
    rights = {
        address
        for address, body in RESOURCES.items()
        if body.get("member") == "google_service_account.build.member"
    }
    assert len(rights) == 4
    assert rights <= set(re.findall(r"\w+_iam_member\.\w+", str(RESOURCES["time_sleep.rights"])))
    assert "time_sleep.rights" in reached_from("google_cloudfunctions2_function.build")


def test_no_data_source_is_put_off_by_what_it_depends_on() -> None:
    """With `depends_on` any change of a dependency makes all that comes of the data unknown, and resources are made anew for it."""
    read = [
        (kind, body)
        for block in blocks("data")
        for kind, named in block.items()
        for body in named.values()
    ]
    assert len(read) >= 3
    assert [kind for kind, body in read if "depends_on" in body] == []


def test_what_cannot_be_made_again_at_once_has_the_installations_id_in_its_name() -> None:
    """Deleted roles and queues keep their names taken for days: a Hub that is made again must not wait for them."""
    roles = [body["role_id"] for address, body in RESOURCES.items() if "custom_role" in address]
    queues = [
        body["name"]
        for address, body in RESOURCES.items()
        if address.startswith("google_cloud_tasks_queue.")
    ]
    assert len(roles) == 2
    assert len(queues) == 1
    assert all("local.installation" in name for name in roles + queues)


# What is watched


def test_errors_are_those_that_the_code_logs() -> None:
    """Cloud Run's own request log has each 5xx as an error, also the 503 that has somebody come again."""
    assert (
        LOCALS["log_metrics"]["errors"]
        == 'severity>=ERROR AND NOT log_id("run.googleapis.com/requests")'
    )


def test_the_events_counted_are_events_that_the_code_logs() -> None:
    """A metric of an event that was renamed stays at zero for ever."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "shared").rglob("*.py"))
    literal = set(re.findall(r'"([A-Z][A-Za-z]+)"', code))
    counted = [
        name
        for each in LOCALS["log_metrics"].values()
        if "message" in each
        for name in strings(each)
    ]
    assert counted
    assert set(counted) <= literal


UNDER_WAY = an_operation(OperationKind.STOP)
STOPPING = a_workspace(operation=UNDER_WAY)
WELL: Final = [
    finish(STOPPING, Status.READY, "AutomaticStopAbandoned", NOW),
    finish(STOPPING, Status.SUSPENDED, "WorkspaceSuspended", NOW),
    Change(replace(STOPPING, operation=an_operation(OperationKind.DELETE)), "DeleteRequested"),
    Change(None, "WorkspaceDeleted"),
]


@pytest.fixture
def end_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], dict[str, Any]]:
    """Return what Cloud Logging gets as the line of an operation's end, whichever change ends it."""
    written = io.StringIO()
    for name in (
        "stdout",
        "stderr",
        "excepthook",
        "unraisablehook",
    ):  # all that a function's process takes over
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logs, "_logger", logging.getLogger(uuid.uuid4().hex))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    [message] = strings(LOCALS["operation_ended"])

    def logged(change: Change) -> dict[str, Any]:
        written.truncate(0)
        written.seek(0)
        monkeypatch.setattr(sys, "stderr", written)
        logs.write_json_lines("INFO")
        log_change(STOPPING, change)
        lines: list[dict[str, Any]] = [json.loads(line) for line in written.getvalue().splitlines()]
        [end] = [line for line in lines if line["message"] == message]
        return end

    return logged


def test_the_end_of_an_operation_has_what_the_metric_takes_from_it(
    end_of: Callable[[Change], dict[str, Any]],
) -> None:
    """A field that was renamed, or has become something else, would leave a label empty and the distribution without a value."""
    end = end_of(finish(STOPPING, Status.SUSPENDED, "WorkspaceSuspended", NOW))
    metric = RESOURCES["google_logging_metric.operations"]
    taken = re.fullmatch(r"EXTRACT\(jsonPayload\.(\w+)\)", metric["value_extractor"])
    assert taken
    assert end[taken[1]] == (NOW - UNDER_WAY.requested_at).total_seconds()
    types = {"BOOL": bool, "STRING": str}
    labels = LOCALS["operation_labels"]
    assert {name: type(end.get(name)) for name in labels} == {
        name: types[of["type"]] for name, of in labels.items()
    }


def test_an_end_that_is_no_failure_is_not_counted_as_one(
    end_of: Callable[[Change], dict[str, Any]],
) -> None:
    """The results that do not count as failed are those of operations that went well, and no others."""
    _, _, results = LOCALS["operation_failed"].partition(" AND NOT jsonPayload.result=")
    assert {end_of(change)["result"] for change in WELL} == strings(results)
    assert (
        end_of(finish(STOPPING, Status.ERROR, "StopFailed", NOW, A_PROBLEM))["result"]
        == A_PROBLEM.code
    )


def test_charts_go_by_labels_and_series_that_there_are() -> None:
    """A chart grouped by a label that no metric has shows one line for all."""
    for query in LOCALS["queries"].values():
        [by] = re.findall(r"sum by \(([^)]*)\)", query)
        assert set(by.split(", ")) <= {*LOCALS["operation_labels"], "le"}
        assert re.findall(r'local\.log_series\["(\w+)"\]}_(\w+){', query) in (
            [("operations", "count")],
            [("operations", "bucket")],
        )


# Form


def said(block: dict[str, Any]) -> str:
    """Return a description without the marks of a heredoc, in one line."""
    return " ".join(re.sub(r"^<<-END\n|\n *END$", "", block.get("description", "")).split())


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_variables_and_outputs_are_described_and_in_order(kind: str) -> None:
    """Each has a description, and can be found by the alphabet."""
    found = named(kind)
    assert list(found) == sorted(found)
    assert [name for name, body in found.items() if len(said(body)) < 10] == []


def test_variables_are_validated_or_can_hardly_be_wrong() -> None:
    """A wrong value is refused at the plan, in words; a boolean has no other values."""
    assert [
        name
        for name, body in named("variable").items()
        if not body.get("validation") and body["type"] != "bool"
    ] == []


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_the_pages_tables_are_the_modules(kind: str) -> None:
    """README's tables have each input and output, in order, with its description, and whether an input is required."""
    page = PAGE.read_text(encoding="utf-8")
    [table] = re.findall(rf"<!-- {kind}s -->\n(.*?)\n<!-- /{kind}s -->", page, re.DOTALL)
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]
    ]
    found = named(kind)
    assert [row[0] for row in rows] == [f"`{name}`" for name in found]
    assert [row[-1] for row in rows] == [said(body) for body in found.values()]
    if kind == "variable":
        assert [row[1] == "required" for row in rows] == [
            "default" not in body for body in found.values()
        ]


def test_the_minimal_example_is_minimal() -> None:
    """Under 20 lines make a Hub."""
    assert len((MODULE / "examples/minimal/main.tf").read_text(encoding="utf-8").splitlines()) < 20


@pytest.mark.parametrize(
    "example", sorted((MODULE / "examples").iterdir()), ids=lambda folder: folder.name
)
def test_an_example_is_where_a_new_project_may_build(example: Path) -> None:
    """A first apply elsewhere ends at the build, after the database has been made in a region that cannot be changed."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    [allowed] = re.findall(r"A new project may build only in (.*?) \(", page)
    [region] = re.findall(r'region += "(.+)"', (example / "main.tf").read_text(encoding="utf-8"))
    assert region in re.findall(r"`([^`]+)`", allowed)

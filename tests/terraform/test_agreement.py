"""The Terraform module agrees with the catalogue, the index file and the code."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localcloud.catalogue import EVERYONE, ROOT, read_catalogue
from localcloud.services.pubsub.topology import pushed_with_token, subscription_of, topic_of
from shared import logs
from shared.adapters.compute_instance import IAP_TAG
from shared.config import SETTINGS
from shared.config.kinds import SetBy
from shared.domain.changes import Change, Forgotten, Transition, Updated, finish
from shared.domain.machine_access import LOGIN_ROLE
from shared.domain.snapshots import snapshot_place
from shared.domain.workspace import OperationKind, Status
from shared.usecases.records import log_transition
from tests.documents import OPERATIONS, text_of
from tests.fakes.records import A_PROBLEM, NOW, a_workspace, an_operation
from tests.terraform.module import (
    MODULE,
    PAGE,
    blocks,
    local_values,
    named,
    resources,
    said,
)

CATALOGUE = read_catalogue()
RESOURCES = resources()
LOCALS = local_values()

# The permission for each method of Compute's clients. Source: "IAM Permissions" in the reference.
PERMISSIONS = {
    "DisksClient.aggregated_list": "compute.disks.list",
    "DisksClient.delete_unary": "compute.disks.delete",
    "DisksClient.get": "compute.disks.get",
    "DisksClient.resize_unary": "compute.disks.resize",
    "DisksClient.set_labels_unary": "compute.disks.setLabels",
    "GlobalOperationsClient.get": "compute.globalOperations.get",
    "InstancesClient.aggregated_list": "compute.instances.list",
    "InstancesClient.delete_unary": "compute.instances.delete",
    "InstancesClient.get": "compute.instances.get",
    "InstancesClient.get_iam_policy": "compute.instances.getIamPolicy",
    "InstancesClient.get_serial_port_output": "compute.instances.getSerialPortOutput",
    "InstancesClient.insert_unary": "compute.instances.create",
    "InstancesClient.resume_unary": "compute.instances.resume",
    "InstancesClient.set_disk_auto_delete_unary": "compute.instances.setDiskAutoDelete",
    "InstancesClient.set_iam_policy": "compute.instances.setIamPolicy",
    "InstancesClient.set_labels_unary": "compute.instances.setLabels",
    "InstancesClient.set_metadata_unary": "compute.instances.setMetadata",
    "InstancesClient.start_unary": "compute.instances.start",
    "InstancesClient.stop_unary": "compute.instances.stop",
    "InstancesClient.suspend_unary": "compute.instances.suspend",
    "SnapshotsClient.delete_unary": "compute.snapshots.delete",
    "SnapshotsClient.get": "compute.snapshots.get",
    "SnapshotsClient.insert_unary": "compute.snapshots.create",
    "SnapshotsClient.list": "compute.snapshots.list",
    "SnapshotsClient.set_labels_unary": "compute.snapshots.setLabels",
    "ZoneOperationsClient.get": "compute.zoneOperations.get",
}
# What only the role for letting owners in has, which has a condition of its own.
LETS_IN = {"compute.instances.getIamPolicy", "compute.instances.setIamPolicy"}
# What inserts of machines and snapshots need besides, by what the adapter asks for; reviewed.
INSERT = {
    "compute.disks.create": "the boot disk and a new home disk",
    "compute.disks.createSnapshot": "the home disk that a snapshot is taken of",
    "compute.disks.setLabels": "their labels",
    "compute.disks.update": "a home disk must outlive a machine made by hand (setDiskAutoDelete)",
    "compute.disks.use": "a home disk that exists",
    "compute.images.useReadOnly": "HUB_BOOT_IMAGE may be an image of the project",
    "compute.instances.setLabels": "labels",
    "compute.instances.setMetadata": "user-data and the rest of the metadata",
    "compute.instances.setServiceAccount": "the machines' account",
    "compute.instances.setTags": "the network tag",
    "compute.snapshots.setLabels": "a snapshot's labels",
    "compute.snapshots.useReadOnly": "a home that is made from a snapshot",
    "compute.subnetworks.use": "the interface",
    "compute.subnetworks.useExternalIp": "HUB_EXTERNAL_ADDRESS",
}


def strings(expression: str) -> set[str]:
    """Return the string literals in an expression."""
    return set(re.findall(r'"([^"]*)"', expression))


# ---- functions and their environment ----


def test_every_function_is_deployed_once() -> None:
    """One resource deploys all functions, each under its own name; another builds their image."""
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


def test_a_new_build_is_deployed_in_the_same_apply() -> None:
    """A resource that each build replaces delays reading, so that the image is never an old one."""
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


def test_the_image_includes_its_system_layer() -> None:
    """An image for automatic updates runs only if the platform adds that layer."""
    [build] = RESOURCES["google_cloudfunctions2_function.build"]["build_config"]
    assert "on_deploy_update_policy" in build
    assert "automatic_update_policy" not in build


def test_the_functions_settings_are_the_catalogues() -> None:
    """Memory, timeout, concurrency and instances are those that were tested, not defaults."""
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
        "{for name, function in local.functions : "
        "name => min(function.max_instances, var.max_instances)}"
    )
    assert template["service_account"] == "google_service_account.group[each.value.runs_as].email"


def test_a_functions_environment_is_that_of_the_local_cloud() -> None:
    """Names and values are the same, but for the builder's folder; the rest are settings."""
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


def test_every_setting_is_set_by_the_module_or_may_be_set_in_it() -> None:
    """A new setting reaches the functions, and none can overrule what the module sets itself."""
    tunable = '{for name in local.tunable : name => lookup(var.settings, name, "")}'
    assert LOCALS["tunable"] == 'jsondecode(file("${path.module}/settings.json")).tunable'
    assert LOCALS["environment"].startswith(f"merge({tunable}, ")
    assert set(re.findall(r"\b([A-Z][A-Z_]+) = ", LOCALS["environment"])) == {
        setting.name for setting in SETTINGS if setting.set_by is SetBy.MODULE
    }


def test_homes_and_their_limit_have_the_same_defaults_in_the_module() -> None:
    """The module compares them before an apply, as the code does at its start."""
    [said] = [
        each["condition"]
        for each in named("variable")["settings"]["validation"]
        if "HUB_HOME_DISK_MAX_GB" in each["condition"]
    ]
    defaults = {setting.name: setting.default for setting in SETTINGS}
    for name in ("HUB_HOME_DISK_GB", "HUB_HOME_DISK_MAX_GB"):
        assert f'"{name}", "") == "" ? "{defaults[name]}" : var.settings["{name}"]' in said


# ---- records ----


def test_the_indexes_are_those_of_the_file() -> None:
    """The module uses the whole index file, which other tests compare with the store's queries."""
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


# ---- machines ----


def _named_values(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what a statement gives names to, and what a method or property returns."""
    if isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return):
        yield f"self.{node.name}", ast.unparse(node.body[-1].value or ast.Constant(None))
    elif isinstance(node, ast.Assign):
        [target] = node.targets
        pairs = (
            zip(target.elts, node.value.elts, strict=True)
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            else [(target, node.value)]
        )
        yield from ((ast.unparse(name), ast.unparse(value)) for name, value in pairs)


def compute_calls() -> set[str]:
    """Return the methods of Compute's clients that the adapter calls (``InstancesClient.get``)."""
    tree = ast.parse((ROOT / "shared/adapters/compute_machines.py").read_text(encoding="utf-8"))
    clients: dict[str, str] = {}
    for node in [*ast.walk(tree)] * 2:  # a client may be named before it is known what it is
        for name, value in _named_values(node):
            made = re.match(r"(?:_read\(lambda: )?(\w+Client)\(", value)
            source = re.sub(r"^_read\((.+)\)$", r"\1", value)
            client = made[1] if made else clients.get(source)
            if client:
                clients[name] = client
    called = {
        f"{clients[ast.unparse(node.value)]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in clients
    }
    assert {call.partition(".")[0] for call in called} == set(
        re.findall(r"(\w+Client)\(", ast.unparse(tree))
    )
    return called


def test_the_workers_role_has_exactly_the_permissions_that_the_code_needs() -> None:
    """Without its permission a new call would fail in production only; extra ones are refused."""
    assert compute_calls() == set(PERMISSIONS)
    assert RESOURCES["google_project_iam_custom_role.operate"]["permissions"] == sorted(
        {*PERMISSIONS.values(), *INSERT} - LETS_IN
    )
    assert RESOURCES["google_project_iam_custom_role.let_in"]["permissions"] == sorted(
        {*PERMISSIONS.values()} & LETS_IN
    )


def test_the_workers_may_let_people_in_to_the_hubs_machines_only() -> None:
    """The condition has the code's role and the Hub's names. Nobody else may set a policy."""
    member = RESOURCES["google_project_iam_member.let_in"]
    [condition] = member["condition"]
    assert LOCALS["login_role"] == LOGIN_ROLE
    assert "local.own_instances" in condition["expression"]
    assert "${local.login_role}" in condition["expression"]
    assert (member["for_each"], LOCALS["operate"]) == ("local.operate", 'toset(["workers"])')
    setting = [
        address
        for address, body in RESOURCES.items()
        if any("setIamPolicy" in each for each in body.get("permissions", ()))
    ]
    assert setting == ["google_project_iam_custom_role.let_in"]


def test_whoever_may_connect_is_let_in_by_the_hub_only() -> None:
    """The module gives nobody the right to log in, on any resource."""
    connecting = {
        address: body["role"]
        for address, body in RESOURCES.items()
        if body.get("for_each") == "toset(var.connect_members)"
    }
    assert connecting == {
        "google_project_iam_member.connect_project": "google_project_iam_custom_role.connect[0].id",
        "google_project_iam_member.connect_tunnel": "roles/iap.tunnelResourceAccessor",
        "google_service_account_iam_member.connect_as_machine": "roles/iam.serviceAccountUser",
    }
    [tunnel] = RESOURCES["google_project_iam_member.connect_tunnel"]["condition"]
    assert tunnel["expression"] == "destination.port == 22"
    [connect] = RESOURCES["google_project_iam_custom_role.connect"]["permissions"]
    assert connect == "compute.projects.get"
    granted = {body.get("role") for body in RESOURCES.values()}
    assert not granted & {LOGIN_ROLE, "local.login_role", "roles/compute.osAdminLogin"}


def test_the_status_function_may_only_read_an_instance() -> None:
    """It makes one call about a machine, and its role has only that permission."""
    asked = re.findall(
        r"\bself\._machines\(\)\.(\w+)",
        (ROOT / "shared/usecases/seen_machines.py").read_text(encoding="utf-8"),
    )
    assert set(asked) == {"get"}
    assert RESOURCES["google_project_iam_custom_role.look"]["permissions"] == [
        "compute.instances.get"
    ]


def test_permissions_on_machines_are_limited_to_the_hubs_names() -> None:
    """The conditions have the code's prefixes of instances, boot disks and home disks."""
    workspace = a_workspace(id="the-id", home_disk=None)
    create = (ROOT / "shared/domain/lifecycle.py").read_text(encoding="utf-8")
    [instance] = re.findall(r'name=f"([a-z-]+)\{workspace_id\}"', create)
    home = workspace.disk_name.removesuffix("the-id")
    assert re.findall(r'startsWith\("([^"]*)"\)', LOCALS["own_instances"]) == [instance]
    assert re.findall(r'startsWith\("([^"]*)"\)', LOCALS["own_disks"]) == [home, instance]
    snapshot = snapshot_place("the-id", "").name.removesuffix("the-id-")
    assert re.findall(r'startsWith\("([^"]*)"\)', LOCALS["own_snapshots"]) == [snapshot]
    [look] = RESOURCES["google_project_iam_member.look"]["condition"]
    assert "${local.own_instances}" in look["expression"]
    [operate] = RESOURCES["google_project_iam_member.operate"]["dynamic"]
    [content] = operate["condition"]["content"]
    assert "${local.own_instances}" in content["expression"]
    assert "${local.own_disks}" in content["expression"]
    assert "${local.own_snapshots}" in content["expression"]


class Name(str):
    """A resource's name, with the functions of IAM's conditions that the module uses."""

    __slots__ = ()

    def extract(self, template: str) -> Name:
        """Return what is in a template's braces; empty if the template does not match."""
        before, _, after = template.partition("{name}")
        found = re.search(f"{re.escape(before)}(.*?){re.escape(after) or '$'}", self)
        return Name(found[1] if found else "")

    startsWith = str.startswith  # noqa: N815 -- its name in the Common Expression Language


def workers_condition() -> str:
    """Return the condition of the workers' role on machines, as IAM gets it."""
    [operate] = RESOURCES["google_project_iam_member.operate"]["dynamic"]
    [content] = operate["condition"]["content"]
    said = re.sub(r"\$\{local\.(\w+)\}", lambda it: LOCALS[it[1]], content["expression"])
    [parts] = re.findall(r'^join\(" \|\| ", \["(.*)"\]\)$', said)
    return str(parts).replace('\\"', '"').replace('", "', " || ")


def workers_may(kind: str, name: str) -> bool:
    """Evaluate the condition for a resource."""
    resource = SimpleNamespace(type=kind, name=Name(name))
    python = workers_condition().replace("&&", "and").replace("||", "or")
    return bool(eval(python, {"__builtins__": {}}, {"resource": resource}))


INSTANCE, DISK, SNAPSHOT_OF_A_DISK = (
    f"compute.googleapis.com/{kind}" for kind in ("Instance", "Disk", "Snapshot")
)
A_ZONE, EVERYWHERE = "projects/p/zones/us-west1-a", "projects/p/global"
AN_ID = "0b0e6c3c-6f0e-4c37-9d2b-1f7f8c3c9b52"
OWN = {
    "a machine": (INSTANCE, f"{A_ZONE}/instances/workspace-{AN_ID}"),
    "a boot disk": (DISK, f"{A_ZONE}/disks/workspace-{AN_ID}"),
    "a home": (DISK, f"{A_ZONE}/disks/{a_workspace(id=AN_ID, home_disk=None).disk_name}"),
    "a snapshot": (
        SNAPSHOT_OF_A_DISK,
        f"{EVERYWHERE}/snapshots/{snapshot_place(AN_ID, str(uuid.uuid4())).name}",
    ),
    # A list is checked on the project (source: IAM, "Resource attributes for IAM Conditions").
    "lists": ("cloudresourcemanager.googleapis.com/Project", "projects/p"),
    "the network": ("compute.googleapis.com/Subnetwork", "projects/p/regions/r/subnetworks/hub"),
    "an operation": ("compute.googleapis.com/GlobalOperation", f"{EVERYWHERE}/operations/o"),
}
FOREIGN = {
    "a machine": (INSTANCE, f"{A_ZONE}/instances/database"),
    "a machine called like a home": (INSTANCE, f"{A_ZONE}/instances/home-{AN_ID}"),
    "a disk": (DISK, f"{A_ZONE}/disks/database"),
    "a disk in a zone called like ours": (DISK, "projects/p/zones/home-1/disks/database"),
    "a snapshot": (SNAPSHOT_OF_A_DISK, f"{EVERYWHERE}/snapshots/database-20260302"),
    "a schedule's snapshot of a home": (
        SNAPSHOT_OF_A_DISK,
        f"{EVERYWHERE}/snapshots/home-{AN_ID}-us-west1-a-20260302",
    ),
    "a snapshot called like a machine": (
        SNAPSHOT_OF_A_DISK,
        f"{EVERYWHERE}/snapshots/workspace-{AN_ID}",
    ),
    "a snapshot of a project called like ours": (
        SNAPSHOT_OF_A_DISK,
        "projects/home-snapshot-1/global/snapshots/database",
    ),
}


@pytest.mark.parametrize("what", OWN)
def test_the_workers_reach_what_is_the_hubs(what: str) -> None:
    """Names as the code gives them, lists, and what machines need besides."""
    assert workers_may(*OWN[what])


@pytest.mark.parametrize("what", FOREIGN)
def test_the_workers_reach_nobody_elses_machine_disk_or_snapshot(what: str) -> None:
    """Whoever may use a snapshot can restore its content anywhere, so the names decide."""
    assert not workers_may(*FOREIGN[what])


def test_the_condition_is_one_that_iam_takes() -> None:
    """It has at most 12 logical operators (source: IAM, "Quotas and limits")."""
    assert len(re.findall(r"&&|\|\|", workers_condition())) <= 12


def test_the_firewall_lets_only_iap_reach_machines() -> None:
    """The code's tag for machines is the target, and only IAP is a source."""
    assert LOCALS["machine_tag"] == IAP_TAG
    firewalls = [
        body
        for address, body in RESOURCES.items()
        if address.startswith("google_compute_firewall.")
    ]
    assert [(body["target_tags"], body["source_ranges"]) for body in firewalls] == [
        (["local.machine_tag"], ["35.235.240.0/20"])
    ]


# ---- access ----


def test_subscriptions_are_those_of_the_local_cloud() -> None:
    """Endpoint, token, deadline, retries, dead letters and retention are the same."""
    module = RESOURCES["google_pubsub_subscription.this"]
    [push], [retry], [expiration] = (
        module[each] for each in ("push_config", "retry_policy", "expiration_policy")
    )
    [token] = push["oidc_token"]
    [dynamic] = module["dynamic"]
    [dead] = dynamic["dead_letter_policy"]["content"]
    assert push["push_endpoint"] == token["audience"] == "local.urls[each.key]"
    assert token["service_account_email"] == (
        "google_service_account.invoker[each.value.invoker].email"
    )
    assert module["ack_deadline_seconds"] == "each.value.ack_deadline_seconds"
    assert retry == {
        f"{each}_backoff": f"${{each.value.retry.{each[:3]}_backoff_seconds}}s"
        for each in ("minimum", "maximum")
    }
    assert "dead_letter_policy.value.topic" in dead["dead_letter_topic"]
    assert dead["max_delivery_attempts"] == "dead_letter_policy.value.max_attempts"
    topic = RESOURCES["google_pubsub_topic.this"]
    for function in CATALOGUE.functions:
        if function.topic and function.retry:
            url = f"https://{function.name}.example"
            local = subscription_of(function, "projects/p", pushed_with_token(url, "a@p.example"))
            assert local.push_config.push_endpoint == local.push_config.oidc_token.audience == url
            assert local.push_config.oidc_token.service_account_email == "a@p.example"
            assert local.ack_deadline_seconds == function.ack_deadline_seconds
            for each in ("minimum", "maximum"):
                backoff = getattr(local.retry_policy, f"{each}_backoff")
                assert backoff.total_seconds() == function.retry[f"{each[:3]}_backoff_seconds"]
            if function.dead_letter:
                policy = local.dead_letter_policy
                assert policy.dead_letter_topic.endswith(f"/{function.dead_letter['topic']}")
                assert policy.max_delivery_attempts == function.dead_letter["max_attempts"]
            assert _seconds(local) == module["message_retention_duration"]
            assert _seconds(topic_of("projects/p", "t")) == topic["message_retention_duration"]
            assert (expiration["ttl"], "ttl" in local.expiration_policy) == ("", False)


def _seconds(resource: Any) -> str:
    """Return how long a topic or subscription keeps messages, as Terraform writes it."""
    return f"{resource.message_retention_duration.total_seconds():.0f}s"


def test_functions_have_the_invokers_of_the_catalogue() -> None:
    """Either everybody may call it, and its code checks the caller, or one service account may."""
    service = RESOURCES["google_cloud_run_v2_service.this"]
    assert service["invoker_iam_disabled"] == f'each.value.invoker == "{EVERYONE}"'
    assert LOCALS["guarded"] == (
        "{for name, function in local.functions : "
        f'name => function if function.invoker != "{EVERYONE}"}}'
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


def test_only_functions_for_people_and_machines_are_public() -> None:
    """No binding is for everybody, which organisations forbid; guarded functions are not public."""
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
    """Return the trust groups that have a function which uses one of the ports."""
    return {
        function.runs_as
        for function in CATALOGUE.functions
        if any(
            f"HUB.{port}" in (ROOT / function.source).read_text(encoding="utf-8") for port in ports
        )
    }


def groups(name: str) -> set[str]:
    """Return the trust groups in a list of ``iam.tf``."""
    everyone = {function.runs_as for function in CATALOGUE.functions}
    expression = LOCALS[name]
    if expression.startswith("setsubtract(local.groups, "):
        return everyone - strings(expression)
    assert expression.startswith("toset([")
    return strings(expression)


@pytest.mark.parametrize(
    ("names", "ports"),
    [
        (["stores"], ["records", "new_records"]),
        (["publish"], ["new_records"]),  # sends its jobs by Pub/Sub
        (["enqueue"], ["records"]),  # sends its jobs by Cloud Tasks
        (["look", "operate"], ["machines", "seen_machines"]),
    ],
    ids=lambda each: each[0],
)
def test_each_trust_group_has_the_permissions_of_its_functions(
    names: list[str], ports: list[str]
) -> None:
    """A group has the permissions for a port exactly if one of its functions uses the port."""
    assert set.union(*(groups(name) for name in names)) == users_of(*ports)


def test_only_workers_and_people_who_connect_act_as_the_machines_account() -> None:
    """An account that may act as another can do all that the other can. OS Login asks for it."""
    acting = {
        address: body["for_each"]
        for address, body in RESOURCES.items()
        if body.get("service_account_id") == "google_service_account.machine.name"
    }
    assert acting == {
        "google_service_account_iam_member.connect_as_machine": "toset(var.connect_members)",
        "google_service_account_iam_member.operate_as_machine": "local.operate",
    }
    assert groups("operate") == {"workers"}


def test_the_machines_account_pulls_images_and_writes_logs_only() -> None:
    """Any program in a workspace can get a token of this account."""
    roles = {
        address: body["role"]
        for address, body in RESOURCES.items()
        if body.get("member") == "google_service_account.machine.member"
    }
    assert roles == {
        "google_artifact_registry_repository_iam_member.machine": "roles/artifactregistry.reader",
        "google_project_iam_member.machine_logs": "roles/logging.logWriter",
    }


def test_the_images_account_writes_the_workspaces_images_and_logs_only() -> None:
    """What an image's build runs can use all rights of this account."""
    roles = {
        address: (body["role"], body.get("repository", body.get("bucket")))
        for address, body in RESOURCES.items()
        if body.get("member") == "google_service_account.image.member"
    }
    assert roles == {
        "google_artifact_registry_repository_iam_member.image": (
            "roles/artifactregistry.writer",
            "google_artifact_registry_repository.workspaces.name",
        ),
        "google_project_iam_member.image_logs": ("roles/logging.logWriter", None),
        "google_storage_bucket_iam_member.image": (
            "roles/storage.objectViewer",
            "google_storage_bucket.source.name",
        ),
    }
    acting = [
        address
        for address, body in RESOURCES.items()
        if body.get("service_account_id") == "google_service_account.image.name"
    ]
    assert acting == []


def test_nobody_has_a_primitive_role() -> None:
    """Owner, editor and viewer are for people."""
    roles = " ".join(str(body.get("role")) for body in RESOURCES.values())
    assert not re.search(r"roles/(owner|editor|viewer)\b", roles)


# ---- upgrades ----

# Arguments whose change replaces the resource. Source: the provider's documentation.
FIXED = {
    "google_firestore_database.this": {"project", "name", "location_id", "type"},
    "google_artifact_registry_repository.workspaces": {
        "project",
        "location",
        "repository_id",
        "format",
    },
    "google_compute_network.this": {"project", "name", "auto_create_subnetworks", "count"},
    # A wider ip_cidr_range changes in place; Compute refuses to delete a subnetwork with machines.
    "google_compute_subnetwork.this": {"project", "region", "name", "network", "count"},
    "random_id.installation": {"byte_length", "keepers", "prefix"},
}
LASTING = {"var.project_id", "var.region", "var.name"}  # another value means another Hub


@pytest.mark.parametrize("address", FIXED)
def test_no_changeable_variable_replaces_a_resource_with_data(address: str) -> None:
    """Database, registry, network and installation id depend only on lasting variables."""
    said = " ".join(
        str(value) for name, value in RESOURCES[address].items() if name in FIXED[address]
    )
    variables = set(re.findall(r"\bvar\.\w+", said))
    others = set(re.findall(r"\blocal\.\w+", said)) - {"local.own_network"}
    assert variables <= LASTING
    assert others == set()


def test_the_module_has_no_machines_or_home_disks() -> None:
    """The Hub makes and deletes them, so that no apply touches people's work."""
    assert not [
        address for address in RESOURCES if re.match(r"google_compute_(instance|disk)\b", address)
    ]


def reached_from(address: str) -> set[str]:
    """Return all resources that a resource depends on, directly or indirectly."""
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


def test_every_resource_waits_for_the_enabled_services() -> None:
    """A new service is unknown to parts of Google Cloud for a minute; an apply would fail."""
    first = {"google_project_service.this", "random_id.installation", "time_sleep.services"}
    assert {
        address for address in RESOURCES if "time_sleep.services" not in reached_from(address)
    } == first


def test_every_binding_waits_for_the_new_accounts() -> None:
    """IAM answers 400 "does not exist" for a while, so each binding waits for all accounts."""
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


def test_the_build_waits_for_all_its_permissions() -> None:
    """Half of the builds fail that start right after their permissions were granted."""
    rights = {
        address
        for address, body in RESOURCES.items()
        if body.get("member") == "google_service_account.build.member"
    }
    assert len(rights) == 4
    assert rights <= set(re.findall(r"\w+_iam_member\.\w+", str(RESOURCES["time_sleep.rights"])))
    assert "time_sleep.rights" in reached_from("google_cloudfunctions2_function.build")


def test_no_data_source_has_depends_on() -> None:
    """With ``depends_on`` a change makes the data unknown, and that replaces resources."""
    read = [
        (kind, body)
        for block in blocks("data")
        for kind, named in block.items()
        for body in named.values()
    ]
    assert len(read) >= 3
    assert [kind for kind, body in read if "depends_on" in body] == []


def test_names_that_stay_taken_have_the_installations_id() -> None:
    """Names of deleted roles and queues stay taken for days; a new Hub must not wait for them."""
    roles = [body["role_id"] for address, body in RESOURCES.items() if "custom_role" in address]
    queues = [
        body["name"]
        for address, body in RESOURCES.items()
        if address.startswith("google_cloud_tasks_queue.")
    ]
    assert len(roles) == 4
    assert len(queues) == 2
    assert all("local.installation" in name for name in roles + queues)


# ---- monitoring ----


def test_the_error_metric_counts_what_the_code_logs() -> None:
    """Cloud Run's own request log counts each 5xx as an error, even a 503 that asks for a retry."""
    assert (
        LOCALS["log_metrics"]["errors"]
        == 'severity>=ERROR AND NOT log_id("run.googleapis.com/requests")'
    )


def test_the_counted_events_are_events_that_the_code_logs() -> None:
    """A metric of a renamed event would stay at zero."""
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
ENDED_WELL: list[Change] = [
    finish(STOPPING, Status.READY, "AutomaticStopAbandoned", NOW),
    finish(STOPPING, Status.SUSPENDED, "WorkspaceSuspended", NOW),
    Updated(replace(STOPPING, operation=an_operation(OperationKind.DELETE)), "DeleteRequested"),
    Forgotten("WorkspaceDeleted"),
]


@pytest.fixture
def end_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], dict[str, Any]]:
    """Return a function that gives the log line for an operation's end, by the change."""
    written = io.StringIO()
    for name in ("stdout", "stderr", "excepthook", "unraisablehook"):  # all that logs replaces
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
        log_transition(Transition(STOPPING, change))
        lines: list[dict[str, Any]] = [json.loads(line) for line in written.getvalue().splitlines()]
        [end] = [line for line in lines if line["message"] == message]
        return end

    return logged


def test_the_end_of_an_operation_has_the_fields_of_the_metric(
    end_of: Callable[[Change], dict[str, Any]],
) -> None:
    """A renamed or changed field would empty a label, or leave the distribution without values."""
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


def test_only_failed_operations_are_counted_as_failed(
    end_of: Callable[[Change], dict[str, Any]],
) -> None:
    """The results that the metric excludes are exactly those of operations that ended well."""
    _, _, results = LOCALS["operation_failed"].partition(" AND NOT jsonPayload.result=")
    assert {end_of(change)["result"] for change in ENDED_WELL} == strings(results)
    assert (
        end_of(finish(STOPPING, Status.ERROR, "StopFailed", NOW, A_PROBLEM))["result"]
        == A_PROBLEM.code
    )


def test_the_runbook_has_every_alert() -> None:
    """docs/operations.md says what to do about each alert, and how many are too many."""
    rows = re.findall(r"^\| `([a-z ]+)` \| (.*?) \|", text_of(OPERATIONS), re.MULTILINE)
    assert [name for name, _ in rows] == list(LOCALS["alerts"])
    for name, when in rows:
        threshold = LOCALS["alerts"][name]["threshold"]
        assert re.findall(r"\bmore than (\d+)\b", when) == ([str(threshold)] if threshold else [])


def test_charts_use_existing_labels_and_series() -> None:
    """A chart grouped by an unknown label would show one line for all."""
    for query in LOCALS["queries"].values():
        [by] = re.findall(r"sum by \(([^)]*)\)", query)
        assert set(by.split(", ")) <= {*LOCALS["operation_labels"], "le"}
        assert re.findall(r'local\.log_series\["(\w+)"\]}_(\w+){', query) in (
            [("operations", "count")],
            [("operations", "bucket")],
        )


# ---- form ----


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_variables_and_outputs_are_described_and_in_order(kind: str) -> None:
    """Each has a description, and the order is alphabetical."""
    found = named(kind)
    assert list(found) == sorted(found)
    assert [name for name, body in found.items() if len(said(body)) < 10] == []


def test_every_variable_but_a_boolean_is_validated() -> None:
    """A wrong value is refused at the plan with a message; a boolean needs no check."""
    assert [
        name
        for name, body in named("variable").items()
        if not body.get("validation") and body["type"] != "bool"
    ] == []


def test_the_minimal_example_is_minimal() -> None:
    """A Hub needs less than 20 lines."""
    assert len((MODULE / "examples/minimal/main.tf").read_text(encoding="utf-8").splitlines()) < 20


@pytest.mark.parametrize(
    "example", sorted((MODULE / "examples").iterdir()), ids=lambda folder: folder.name
)
def test_an_examples_region_allows_builds_of_new_projects(example: Path) -> None:
    """Elsewhere the build fails after the database was made in a region that cannot be changed."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    [allowed] = re.findall(r"A new project may build only in (.*?) \(", page)
    [region] = re.findall(r'region += "(.+)"', (example / "main.tf").read_text(encoding="utf-8"))
    assert region in re.findall(r"`([^`]+)`", allowed)

"""The floor of POST /workspaces: a bare function with the same read, commit and message.

It copies the documents of a real workspace (``?like=``), of its owner and of its event, with all
their fields, to new names.
"""

import json
import uuid
from functools import cache
from typing import Any

import functions_framework
from flask import Request
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.pubsub_v1 import PublisherClient


@cache
def _client() -> firestore.Client:
    return firestore.Client()


@cache
def _publisher() -> PublisherClient:
    return PublisherClient()


@cache
def _documents(workspace_id: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    workspace = _client().collection("workspaces").document(workspace_id).get().to_dict() or {}
    owner = (
        _client().collection("owners").document(f"o-{workspace['owner_id']}").get().to_dict() or {}
    )
    of_it = FieldFilter("workspace_id", "==", workspace_id)
    [event] = _client().collection("events").where(filter=of_it).limit(1).stream()
    return workspace, owner, event.to_dict() or {}


@functions_framework.http
def create_floor(request: Request) -> tuple[str, int]:
    """Write the documents, send the message, and answer with that of the workspace."""
    workspace, owner, event = _documents(request.args["like"])
    asked = request.get_json()
    owner_document = _client().collection("owners").document(f"floor-{uuid.uuid4()}")
    owner_document.get()
    made = {**workspace, **asked, "id": str(uuid.uuid4())}
    batch = _client().batch()
    batch.create(_client().collection("floor_workspaces").document(made["id"]), made)
    batch.create(owner_document, owner)
    batch.create(_client().collection("floor_events").document(), event)
    batch.commit()
    topic = _publisher().topic_path(_client().project, "workspace-provision")
    _publisher().publish(topic, json.dumps({"workspace_id": made["id"]}).encode()).result()
    return json.dumps(made, default=str), 201

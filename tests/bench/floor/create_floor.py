"""The floor of POST /workspaces: a bare function that makes the same one Firestore read and one commit of two documents."""

import json
import uuid
from functools import cache

import functions_framework
from flask import Request
from google.cloud import firestore


@cache
def _client() -> firestore.Client:
    return firestore.Client()


@functions_framework.http
def create_floor(request: Request) -> tuple[str, int]:
    """Answer with the document."""
    owner = _client().collection("owners").document(f"floor-{uuid.uuid4()}")
    owner.get()
    document = {**request.get_json(), "id": str(uuid.uuid4()), "status": "PROVISIONING"}
    batch = _client().batch()
    batch.create(_client().collection("floor").document(document["id"]), document)
    batch.create(owner, {"workspaces": {document["id"]: {"name": document["name"]}}})
    batch.commit()
    return json.dumps(document), 201

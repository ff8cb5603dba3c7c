"""The floor of GET /workspaces: a bare function with the same Firestore query."""

import json
from functools import cache

import functions_framework
from flask import Request
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter


@cache
def _client() -> firestore.Client:
    return firestore.Client()


@functions_framework.http
def list_floor(request: Request) -> str:
    """Answer with the documents that the query finds."""
    mine = FieldFilter("owner_id", "==", request.args["owner_id"])
    newest_first = firestore.Query.DESCENDING
    query = (
        _client()
        .collection("workspaces")
        .where(filter=mine)
        .order_by("created_at", direction=newest_first)
    )
    return json.dumps([found.to_dict() for found in query.limit(101).stream()], default=str)

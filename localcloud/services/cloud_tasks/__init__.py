"""A Cloud Tasks server for one machine, which Google's own client library can use unchanged.

It serves ``google.cloud.tasks.v2.CloudTasks`` over plain gRPC and sends each task to its target
over HTTP. ``queue`` and what it is made of are pure and take the time as an argument; ``names``,
``queue_messages`` and ``task_messages`` read and write the client library's messages; ``service``
answers the calls, ``dispatch`` sends tasks, and ``server`` serves them on a port.

Sources of the facts: the reference texts in the client library; for error texts, dispatch headers
and what counts in them, the recordings of the real service in the conformance tests of
aertje/cloud-tasks-emulator.

Differences from the real service:

- 429 and 503 from a target do not slow the whole queue down, ``Retry-After`` is not read, and a new
  or idle queue does not ramp up slowly: only ``rate_limits`` and ``retry_config`` decide.
- A task with a token may have an ``http://`` URL; the real service requires ``https://``.
- There are only HTTP tasks: App Engine tasks, access tokens (``oauth_token``), a queue's
  ``http_target``, list filters, batches and IAM policies are refused.
- Durations keep their fractions of a second. The reference truncates backoffs to seconds, but their
  default is 0.1 s.
- Used names are free again after ``name_retention``, an hour by default (in the real service, up to
  24 hours for a task and 3 days for a queue). Tasks are not deleted at the age of 31 days.
"""

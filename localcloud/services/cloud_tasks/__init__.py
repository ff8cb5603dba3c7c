"""A Cloud Tasks server for one machine, which Google's own client library can use unchanged.

It serves `google.cloud.tasks.v2.CloudTasks` over plain gRPC and sends each task to its target over
HTTP. `errors` and `queue` are pure and take the time as an argument, `messages` reads and writes
the client library's messages, `service` answers the calls, `dispatch` sends tasks, `server` binds
them to a port.

What the facts come from: the reference texts in the client library; error texts, dispatch headers
and what counts in them as the open conformance recordings of aertje/cloud-tasks-emulator show them
for the real service.

Where it differs from the real service:

- 429 and 503 from a target do not slow the whole queue down, `Retry-After` is not read, and a new
  or idle queue does not ramp up slowly: only `rate_limits` and `retry_config` decide.
- A task with a token may have an `http://` URL; the real service asks for `https://` there.
- Only HTTP tasks: App Engine tasks, access tokens (`oauth_token`), a queue's `http_target`, list
  filters, batches and IAM policies are refused.
- Durations keep their fractions of a second (the reference truncates backoffs to seconds, yet their
  default is 0.1 s).
- Used names are free again after `name_retention`, an hour by default (the real service: up to 24
  hours for a task, 3 days for a queue). Tasks are not deleted at the age of 31 days.
"""

from localcloud.services.cloud_tasks.dispatch import DeliveryFaults
from localcloud.services.cloud_tasks.server import CloudTasksServer
from localcloud.services.cloud_tasks.service import QueueStatus, TaskStatus

__all__ = ["CloudTasksServer", "DeliveryFaults", "QueueStatus", "TaskStatus"]

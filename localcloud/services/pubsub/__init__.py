"""A Pub/Sub server for one machine, which Google's own client library can use unchanged.

It serves ``google.pubsub.v1.Publisher`` and ``Subscriber`` over plain gRPC and pushes messages over
HTTP. ``backlog``, ``retries``, ``names``, ``publishing`` and ``push_request`` are pure and take the
time as an argument; ``topic_messages`` and ``subscription_messages`` read the settings;
``subscription`` is one subscription; ``service`` answers the calls, ``pulling`` those that wait,
``delivery`` pushes, and ``server`` serves them on a port. ``topology`` creates what the deployment
creates, here or in Google's emulator, for which ``push_relay`` adds what that lacks.

How it is wired::

    pubsub = PubSubServer(mint_token=issuer.service_account_token)  # (e-mail, audience) -> token
    await pubsub.start_within(stack)                                # then pubsub.address
    await create_topology(
        pubsub.address,
        project.path,
        catalogue.functions,
        lambda function: pushed_with_token(
            urls[function.name], settings.service_account(function.invoker)
        ),
    )
    # pubsub.faults for the control API; pubsub.reset(); pubsub.pause() and pubsub.resume()

With Google's emulator, ``create_topology`` gets its address, and push endpoints at the
``PushRelay``.

Sources of the facts: the reference texts in the client library; Pub/Sub's pages "Push
subscriptions", "Handle message failures", "Dead-letter topics" and "Quotas and limits"; for error
texts, what users of the real service quote in the issues of its client libraries, and otherwise
Google's emulator.

Differences from the real service:

- An endpoint may be an ``http://`` URL. The number of pushes under way starts at its limit (100 for
  each subscription) and does not follow the endpoint's successes; only push backoff slows down.
- Refused, not ignored: filters, exactly-once delivery, unwrapped pushes, snapshots, ``Seek``,
  detaching, schemas, transforms, ingestion, storage policies, customer keys, IAM policies, and
  subscriptions that write to BigQuery, Bigtable or Cloud Storage.
- Of one ordering key, one message at a time is delivered, to those who pull, too.
- Topics and subscriptions are kept until they are deleted: ``expiration_policy`` is only stored.
  Messages are kept in memory, and go with the process.
- Delivery attempts are counted exactly; the real service counts as well as it can.
"""

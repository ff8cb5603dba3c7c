"""What no setting can say alone: values that depend on each other, and rules between settings."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from shared.config.declarations import BOOT_IMAGES
from shared.config.settings import ConnectKind, IdentitySource, Settings
from shared.domain.access import EVERYBODY, Mode
from shared.domain.machine_types import (
    DISK_TYPES,
    Architecture,
    MachineType,
    disk_type,
    parse_machine_type,
)

# Accounts of these have no `hd`: consumers' (source: Google's "OpenID Connect") and service
# accounts (seen in their tokens).
_WITHOUT_ORGANISATION = re.compile(r"gmail\.com|googlemail\.com|(.+\.)?gserviceaccount\.com")


# Values that depend on others


def fitted(settings: Settings) -> Settings:
    """Return the settings with the values that others bound or decide."""
    return _fit_boot_image(_fit_health_time(_fit_heartbeats(settings)))


def _fit_heartbeats(settings: Settings) -> Settings:
    """Keep heartbeats to a third of the idle time.

    Whoever is connected must have said so, and it must have been written, well before the machine
    counts as idle.
    """
    policy, machine = settings.policy, settings.machine
    longest = policy.idle_after / 3 if policy.idle_after else timedelta.max
    interval = min(machine.heartbeat_interval, longest)
    return replace(
        settings,
        machine=replace(machine, heartbeat_interval=interval),
        policy=replace(
            policy,
            machine_heartbeat_interval=interval,
            heartbeat_write_interval=min(policy.heartbeat_write_interval, longest),
        ),
    )


def _fit_health_time(settings: Settings) -> Settings:
    """Keep the health command's time to half of START's, so that a START can tell what failed."""
    within = min(settings.machine.health_within, settings.policy.deadlines.start / 2)
    return replace(settings, machine=replace(settings.machine, health_within=within))


def _fit_boot_image(settings: Settings) -> Settings:
    """Choose the boot image by the machine types' processors, unless it is set."""
    parsed = map(parse_machine_type, settings.policy.machine_types)
    architecture = next((one.architecture for one in parsed if one), Architecture.X86)
    image = settings.machine.boot_image or BOOT_IMAGES[architecture]
    return replace(settings, machine=replace(settings.machine, boot_image=image))


# Rules between settings


def contradictions(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each rule between settings that these break."""
    usable = [one for one in map(parse_machine_type, settings.policy.machine_types) if one]
    usable = [one for one in usable if not _why_unusable(one, settings.machine.disk_types)]
    yield from _nobody_is_served(settings)
    yield from _for_teams_only(settings)
    yield from _everybody_in_the_wrong_place(settings)
    yield from _administrators_without_organisation(settings)
    yield from _domains_without_organisation(settings)
    yield from _administrators_named_twice(settings)
    yield from _unusable_machine_types(settings)
    yield from _architectures_that_differ(usable, settings.machine.boot_image)
    yield from _disks_that_do_not_fit(usable, settings.machine.disk_types)
    yield from _defaults_that_are_not_allowed(settings)
    yield from _clients_that_are_refused(settings)
    yield from _for_direct_connections_only(settings)
    yield from _archived_after_its_deletion(settings)
    yield from _homes_beyond_their_limit(settings)


def _nobody_is_served(settings: Settings) -> Iterator[str]:
    """A Hub serves nobody by default, since a Google account is easily had."""
    if not settings.access.emails and not settings.access.domains:
        yield (
            "neither HUB_ALLOWED_EMAILS nor HUB_ALLOWED_DOMAINS is set;"
            " HUB_ALLOWED_EMAILS=* lets in everybody"
        )


def _for_teams_only(settings: Settings) -> Iterator[str]:
    access = settings.access
    if access.mode is Mode.PERSONAL and (access.domains or access.admins or access.outside_admins):
        yield (
            "HUB_ALLOWED_DOMAINS, HUB_ADMIN_EMAILS and HUB_OUTSIDE_ADMIN_EMAILS need HUB_MODE=team"
        )


def _everybody_in_the_wrong_place(settings: Settings) -> Iterator[str]:
    access = settings.access
    if EVERYBODY in access.domains + access.admins + access.outside_admins:
        yield "* is for HUB_ALLOWED_EMAILS only"


def _administrators_without_organisation(settings: Settings) -> Iterator[str]:
    for address in settings.access.admins:
        if _WITHOUT_ORGANISATION.fullmatch(address.rpartition("@")[2]):
            yield (
                f"HUB_ADMIN_EMAILS has {address!r}, an account of no organisation; name it in"
                " HUB_OUTSIDE_ADMIN_EMAILS"
            )


def _domains_without_organisation(settings: Settings) -> Iterator[str]:
    named = {
        "HUB_ALLOWED_DOMAINS": settings.access.domains,
        "HUB_LIMITS_OF": settings.policy.limits_of,
    }
    for name, domains in named.items():
        for domain in domains:
            if _WITHOUT_ORGANISATION.fullmatch(domain):
                yield (
                    f"{name} has {domain!r}, which is no organisation's; name people there by their"
                    " addresses"
                )


def _administrators_named_twice(settings: Settings) -> Iterator[str]:
    access = settings.access
    for address in access.admins:
        if address in access.outside_admins and address != EVERYBODY:
            yield (
                f"{address!r} is in HUB_ADMIN_EMAILS and in HUB_OUTSIDE_ADMIN_EMAILS; name it in"
                " one of them"
            )


def _unusable_machine_types(settings: Settings) -> Iterator[str]:
    for name in settings.policy.machine_types:
        parsed = parse_machine_type(name)
        if not parsed:
            yield f"HUB_MACHINE_TYPES has {name!r}; it is not the name of a machine type"
        elif why := _why_unusable(parsed, settings.machine.disk_types):
            yield f"HUB_MACHINE_TYPES has {name!r}; {why}"


def _why_unusable(machine_type: MachineType, disk_types: Mapping[str, str]) -> str:
    series = machine_type.series
    if machine_type.why_not_suspendable:
        return (
            f"Compute cannot suspend it, since {machine_type.why_not_suspendable}: every stop would"
            " lose its memory"
        )
    if not machine_type.fitting_disks and series not in disk_types:
        return (
            f"HUB_DISK_TYPES must say which disks its series takes, like"
            f" {series}=hyperdisk-balanced"
        )
    return ""


def _architectures_that_differ(machine_types: list[MachineType], boot_image: str) -> Iterator[str]:
    """Yield the machine types, or the boot image, that another architecture is needed for."""
    examples = {one.architecture: one.name for one in reversed(machine_types)}
    if len(examples) > 1:
        yield (
            f"HUB_MACHINE_TYPES has {examples[Architecture.ARM]!r}, which is Arm, and"
            f" {examples[Architecture.X86]!r}, which is x86; a Hub must have one of the two: its"
            " images, and what people install in their homes, run on one only"
        )
        return
    cos = re.search(r"projects/cos-cloud/.*/(cos-[a-z0-9-]+)$", boot_image)
    built_for = Architecture.ARM if cos and cos[1].startswith("cos-arm64") else Architecture.X86
    if cos and examples and built_for not in examples:
        [(needed, name)] = examples.items()
        yield (
            f"HUB_BOOT_IMAGE is {boot_image!r}; it must be an image for {needed}, as {name!r} needs"
        )


def _disks_that_do_not_fit(
    machine_types: list[MachineType], disk_types: Mapping[str, str]
) -> Iterator[str]:
    """Yield the first two machine types of which one cannot attach a home made for the other."""
    made = {one.name: disk_type(one.name, disk_types) for one in machine_types}
    fitting = {one.name: one.fitting_disks or (made[one.name],) for one in machine_types}
    for one, other in itertools.permutations(made, 2):
        if made[other] not in fitting[one]:
            yield (
                f"HUB_MACHINE_TYPES has {one!r}, which takes {' or '.join(fitting[one])}, and"
                f" {other!r}, which gets {made[other]}; every type must take the others' disks,"
                " since a home keeps its disk when the type changes"
                f"{_what_makes_them_fit(machine_types, made, fitting)}"
            )
            return


def _what_makes_them_fit(
    machine_types: list[MachineType],
    made: Mapping[str, str],
    fitting: Mapping[str, tuple[str, ...]],
) -> str:
    """Return the setting that gives all machine types one type of disk, if there is such a type."""
    for shared in DISK_TYPES:
        if all(shared in each for each in fitting.values()):
            series = sorted({one.series for one in machine_types if made[one.name] != shared})
            setting = ",".join(f"{each}={shared}" for each in series)
            return f"; HUB_DISK_TYPES={setting} makes them fit"
    return ""


def _defaults_that_are_not_allowed(settings: Settings) -> Iterator[str]:
    policy = settings.policy
    if policy.default_machine_type not in policy.machine_types:
        yield "HUB_DEFAULT_MACHINE_TYPE is not one of HUB_MACHINE_TYPES"
    if not policy.allows_image_tag(policy.default_image_tag):
        yield "HUB_DEFAULT_IMAGE_TAG is not one of HUB_IMAGE_TAGS"


def _clients_that_are_refused(settings: Settings) -> Iterator[str]:
    """Yield what ``GET /sign-in`` would offer to people in vain."""
    sign_in, identity = settings.sign_in, settings.identity
    if sign_in.oauth_client_secret and not sign_in.oauth_client_id:
        yield "HUB_OAUTH_CLIENT_SECRET needs HUB_OAUTH_CLIENT_ID"
    if identity.source is IdentitySource.IAP:
        return  # the proxy decides which clients' tokens it takes
    if sign_in.iap_audience:
        yield "HUB_IAP_AUDIENCE needs HUB_IDENTITY_SOURCE=iap"
    offered = {
        "HUB_OAUTH_CLIENT_ID": sign_in.oauth_client_id,
        "HUB_OAUTH_WEB_CLIENT_ID": sign_in.oauth_web_client_id,
    }
    for name, client_id in offered.items():
        if client_id and client_id not in (identity.user_audiences or ()):
            yield (
                f"{name} is not one of HUB_USER_AUDIENCES: the Hub would refuse the tokens that it"
                " tells people to get"
            )


def _for_direct_connections_only(settings: Settings) -> Iterator[str]:
    """IAP's forwarding and the firewall lead to port 22, and to nothing in between."""
    connect = settings.connect
    if connect.kind is ConnectKind.IAP and (connect.jump or connect.port != 22):
        yield "HUB_CONNECT_JUMP, and another HUB_CONNECT_PORT than 22, need HUB_CONNECT=direct"


def _archived_after_its_deletion(settings: Settings) -> Iterator[str]:
    """Nothing would ever be archived: the sweep deletes first."""
    policy = settings.policy
    if policy.archive_after is None or policy.retention is None:
        return
    if max(policy.archive_after, policy.archive_notice) >= policy.retention:
        days = policy.archive_notice.days
        yield (
            f"HUB_ARCHIVE_SECONDS, or the {days} days before which an archive is announced, must be"
            " below HUB_RETENTION_SECONDS: workspaces would be deleted before they are archived."
            " HUB_ARCHIVE_SECONDS=0 archives none"
        )


def _homes_beyond_their_limit(settings: Settings) -> Iterator[str]:
    """A new home would be larger than a person may make one."""
    policy = settings.policy
    if policy.home_disk_gb > policy.home_disk_max_gb:
        yield (
            f"HUB_HOME_DISK_GB is {policy.home_disk_gb}, and must be at most HUB_HOME_DISK_MAX_GB,"
            f" which is {policy.home_disk_max_gb}"
        )

"""Which model and version an event is of, and what its outputs are."""

from dataclasses import dataclass, field

from service.formats.events import Event
from service.formats.features import Kinds
from service.formats.outputs import Mapping, Task
from service.ingest.specs import Specs, Versions
from service.ingest.verdicts import Code, RowError
from service.registry.values import VersionSpec


@dataclass(frozen=True, slots=True)
class Options:
    """What the address says that events are sent to; it goes before what they say themselves.

    ``alone`` says that responses come without their requests, and wait for none.
    """

    model: str | None = None
    version: str | None = None
    mapping: Mapping = field(default_factory=Mapping)
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A version; ``spec`` is ``None`` where it is about to be registered."""

    model_id: int
    model: str
    version: str
    kinds: Kinds
    task: Task
    spec: VersionSpec | None = None


async def find_target(specs: Specs, options: Options, event: Event | None = None) -> Target:
    """Return the version that an event is of, or raise that nobody can tell.

    The model is the one of the address, or is called like the deployment, with its namespace
    before a dot or without.  The version is the one of the address, or that of the event, or
    called like the endpoint (``canary``), or the only one that is live.
    """
    for name in _model_names(options, event):
        found = await specs.versions(name)
        if found is not None:
            return _target(found, options, event)
    raise RowError(
        Code.UNKNOWN_MODEL,
        "model",
        "no model is called like the deployment; register it, or name one: ?model=",
    )


def _model_names(options: Options, event: Event | None) -> list[str]:
    if options.model is not None or event is None or event.service is None:
        return [options.model] if options.model else []
    service = event.service.lower()
    return (
        [service] if event.namespace is None else [f"{event.namespace.lower()}.{service}", service]
    )


def _target(found: Versions, options: Options, event: Event | None) -> Target:
    known = {spec.version: spec for spec in found.versions}
    said = [event.version, event.endpoint] if event is not None else []
    wanted = [options.version] if options.version is not None else said
    for name in wanted:
        if name in known:
            return _of(known[name])
    first = next((name for name in wanted if name), None)
    if found.auto_register and first is not None:
        return Target(found.model_id, found.model, first, {}, Task(found.task))
    live = [spec for spec in found.versions if spec.stage == "live"]
    if options.version is not None or len(live) != 1:
        raise RowError(
            Code.UNKNOWN_VERSION,
            "version",
            "nothing says which version it is, and not exactly one is live; name it: ?version=",
        )
    return _of(live[0])


def _of(spec: VersionSpec) -> Target:
    # What is dropped before it is stored is a column of the model's all the same.
    columns = sorted((*spec.features, *spec.dropped), key=lambda own: own.position)
    kinds = {own.name: own.kind for own in columns}
    task = Task(spec.task, spec.classes, spec.positive_class)
    return Target(spec.model_id, spec.model, spec.version, kinds, task, spec)

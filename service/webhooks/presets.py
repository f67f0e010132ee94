"""What is sent to whom: the event itself, or the request that a well-known system takes.

Pure.  The same event gives the same bytes however often it is sent.  Bodies are built as values
and serialised, not filled into templates: nothing in an event can change the shape of a request.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

Event = Mapping[str, Any]
Options = Mapping[str, str]

JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_TYPES: Final = {"dev.modelwatch.retrain.requested.v1": "retraining.requested"}


@dataclass(frozen=True, slots=True)
class Preset:
    """How one system is called.

    ``required`` and ``optional`` are its options; ``done`` are the statuses beside 2xx that say
    that the event had arrived before.
    """

    body: Callable[[Event, Options], Any]
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    done: frozenset[int] = frozenset()

    def render(self, event: Event, options: Options) -> bytes:
        """Return the body of the request for an event."""
        content = self.body(event, options)
        if self.content_type == _FORM:
            return urlencode(content).encode()
        return json.dumps(
            content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()


def kind_of(event: Event) -> str:
    """Return the name under which webhooks subscribe to such an event."""
    kind: str = event["type"]
    return _TYPES.get(kind, kind.removeprefix("dev.modelwatch.").removesuffix(".v1"))


def _whole(event: Event, _options: Options) -> Any:
    return dict(event)


def _github(event: Event, _options: Options) -> Any:
    # GitHub takes ten keys of a payload and a type of a hundred characters.
    return {
        "event_type": f"modelwatch.{kind_of(event)}",
        "client_payload": {"event": dict(event)},
    }


# GitLab expands $NAME, ${NAME} and %NAME% in values that it is sent, and its runner $1, with all
# that the project keeps secret.  $$ is read by the runner alone, and nothing reads %% as %.
_REFERENCE: Final = re.compile(r"\$|%(?=[A-Za-z_])")
_HARMLESS: Final = {"$": "\N{FULLWIDTH DOLLAR SIGN}", "%": "\N{FULLWIDTH PERCENT SIGN}"}


def _unexpanded(text: str) -> str:
    return _REFERENCE.sub(lambda found: _HARMLESS[found[0]], text)


def _gitlab(event: Event, _options: Options) -> Any:
    data = event["data"]
    start, end = data.get("window") or ("", "")
    variables = {
        "EVENT_ID": event["id"],
        "EVENT": kind_of(event),
        **{
            key.upper(): str(data[key])
            for key in ("model", "version", "action", "reason", "request", "evidence_url")
            if data.get(key) is not None
        },
        **({"WINDOW_START": start, "WINDOW_END": end} if start else {}),
    }
    return {f"variables[MODELWATCH_{key}]": _unexpanded(value) for key, value in variables.items()}


def _airflow(event: Event, _options: Options) -> Any:
    # The key logical_date must be there, though its value may be null.
    return {"logical_date": None, "dag_run_id": event["id"], "conf": dict(event)}


def _kfp(event: Event, options: Options) -> Any:
    run: dict[str, Any] = {
        "display_name": event["id"],
        "pipeline_version_reference": {"pipeline_id": options["pipeline_id"]},
        "runtime_config": {"parameters": {"event": dict(event)}},
    }
    if "pipeline_version_id" in options:
        run["pipeline_version_reference"]["pipeline_version_id"] = options["pipeline_version_id"]
    if "experiment_id" in options:
        run["experiment_id"] = options["experiment_id"]
    return run


def _prefect(event: Event, _options: Options) -> Any:
    return {
        "parameters": {"event": dict(event)},
        "idempotency_key": event["id"],
        "tags": ["modelwatch", kind_of(event), event["subject"]],
    }


def _dagster(event: Event, _options: Options) -> Any:
    data = event["data"]
    return {
        "description": str(data.get("reason", kind_of(event))),
        "metadata": {"event_id": event["id"], "event": json.dumps(dict(event), sort_keys=True)},
    }


PRESETS: Final[Mapping[str, Preset]] = {
    "cloudevent": Preset(_whole, "application/cloudevents+json"),
    "github": Preset(
        _github,
        headers={
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    ),
    "gitlab": Preset(_gitlab, _FORM),
    # A run of that id exists: the event had arrived, and its answer was lost.
    "airflow3": Preset(_airflow, done=frozenset({HTTPStatus.CONFLICT})),
    "argo": Preset(_whole),
    "kfp": Preset(
        _kfp,
        required=frozenset({"pipeline_id"}),
        optional=frozenset({"pipeline_version_id", "experiment_id"}),
    ),
    "prefect": Preset(_prefect),
    "dagster": Preset(_dagster),
}

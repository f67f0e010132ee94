"""The environment, read once at the edge and passed down."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SHORTEST_KEY = 16


class Settings(BaseSettings):
    """Every setting of the service; each is an environment variable ``MODELWATCH_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="MODELWATCH_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    database_url: SecretStr | None = Field(
        default=None, description="your own PostgreSQL (16 or newer); embedded when unset"
    )
    data_dir: Path = Field(
        default=Path("~/.local/share/modelwatch"), description="where the embedded database lives"
    )
    host: str = Field(
        default="127.0.0.1", description="address the API, and a worker's own /metrics, listens on"
    )
    port: int = Field(default=8080, ge=0, le=65535, description="port the API listens on")
    drain: timedelta = Field(
        default=timedelta(0),
        description="how long a stopping API says that it is not ready before it stops listening",
    )
    database_pool: int = Field(
        default=8,
        ge=1,
        description="connections that a process shares; an API has 3 beside, a worker 4",
    )
    quiet: timedelta = Field(
        default=timedelta(seconds=2),
        description="a window is judged when nothing has changed in it for this long",
    )
    lease: timedelta = Field(
        default=timedelta(seconds=10),
        description="a worker that is silent for this long loses its claim",
    )
    poll: timedelta = Field(
        default=timedelta(milliseconds=250), description="how often an idle worker looks for work"
    )
    evidently: bool = Field(
        default=True, description="whether the worker measures windows with Evidently as well"
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="key that `replay`, `import` and `up --demo` send, where one is needed",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        min_length=SHORTEST_KEY,
        description="what the secrets of webhooks are stored under; `up` makes one and keeps it in"
        " its data directory",
    )
    webhook_allow: str = Field(
        default="",
        description="where webhooks may go beside https on port 443 of public addresses: hosts, "
        "addresses and networks by commas, each with `:port` or without",
    )
    alertmanager_url: SecretStr | None = Field(
        default=None,
        description="where a worker asks Alertmanager every minute which alerts fire, like"
        " `http://alertmanager:9093`",
    )
    pii_key: SecretStr | None = Field(
        default=None,
        min_length=SHORTEST_KEY,
        description="what personal data is hashed under; `up` makes one and keeps it in its data"
        " directory",
    )
    max_body_bytes: int = Field(default=8 << 20, description="wire bytes of one request")
    max_inflated_bytes: int = Field(default=32 << 20, description="bytes of one decompressed body")
    max_reference_bytes: int = Field(
        default=256 << 20,
        ge=1,
        description="bytes of the file of a reference as it is sent, and of all that are received"
        " at one time: temporary files, which take memory where `/tmp` is a tmpfs",
    )
    max_reference_rows: int = Field(default=5_000_000, ge=1, description="rows of a reference")
    max_reference_inflated_bytes: int = Field(
        default=256 << 20,
        ge=1,
        description="bytes of a reference's columns in memory; the process that reads it takes two"
        " to four times as much, and at most half of the memory of its machine or container",
    )
    max_batch_rows: int = Field(default=5_000, description="rows of one request")
    max_rows_in_flight: int = Field(
        default=160_000, description="rows waiting for their commit before a 503"
    )
    max_bytes_in_flight: int = Field(
        default=256 << 20,
        description="bytes of bodies held at one time before a 503; no more than a sixteenth of the"
        " memory of the machine or container",
    )
    label_ttl: timedelta = Field(
        default=timedelta(days=30), description="how long a label waits for its prediction"
    )
    pending_ttl: timedelta = Field(
        default=timedelta(minutes=15),
        description="how long a request or response of an inference server waits for the other",
    )
    max_pending: int = Field(
        default=100_000, description="requests and responses of a model that may wait"
    )
    max_pending_bytes: int = Field(
        default=256 << 20, description="bytes of them, of one model, before a 503"
    )
    worker_metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="port of a worker's own /metrics; none when unset"
    )
    log_level: str = Field(default="INFO", description="lowest level that is logged")
    log_format: Literal["plain", "json"] = Field(
        default="plain", description="`json`: an object a line, for whoever collects logs"
    )
    traces: bool = Field(
        default=False,
        description="whether spans of requests and jobs are sent by OTLP, to where"
        " `OTEL_EXPORTER_OTLP_ENDPOINT` says (needs the extra `traces`)",
    )

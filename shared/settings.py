"""All settings, typed, in one place. Environment variables start with ``BOWERBIRD_``; docs/settings.md is the table.

Settings are read once, by the process's entry point, and passed on: nothing reads the environment at import.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import ConfigurationError
from shared.limits import Limits
from shared.retries import DEFAULT_RETRIES, RetryPolicy, parse_retries
from shared.tasks import TASKS, check_together, spec_of, split_entry

PREFIX = "BOWERBIRD_"
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*")


def default_data_dir() -> Path:
    """Return the user's data directory: ``$XDG_DATA_HOME/bowerbird``, by default ``~/.local/share/bowerbird``."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "bowerbird"


class Settings(BaseSettings):
    """Every setting has a default that runs as it is; the descriptions are printed by ``bowerbird settings``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Everything the suite keeps on this machine: the embedded database, exports, scratch files, logs.",
    )
    database_url: str | None = Field(
        default=None,
        description="`postgresql://user:password@host:port/database`. Empty: an embedded one in the data directory.",
    )
    broker_url: str | None = Field(
        default=None,
        description="`amqp://user:password@host:port/vhost` for RabbitMQ. Empty: the database is the broker.",
    )
    broker_prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")] = Field(
        default="bowerbird",
        description="First part of every exchange and queue name, so that suites can share a broker.",
    )
    export_dir: Path | None = Field(
        default=None, description="Where published files go. Empty: `exports` in the data directory."
    )

    database_wait_seconds: float | None = Field(
        default=None,
        ge=0,
        description="How long a service that starts waits for the database, before it ends with status 1. Empty: for "
        "ever; the API does not wait, and answers 503 meanwhile.",
    )
    database_pause_seconds: float | None = Field(
        default=None, gt=0, description="The pause between two tries. Empty: one that grows, up to 10 seconds."
    )

    job_tasks_plan: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("collect", "process", "check", "export", "coverage", "flatten"),
        description=(
            "The tasks of a job, in order, separated by commas; `type:backend` has another system do one "
            "(docs/remote.md). A collection can have its own."
        ),
    )
    default_language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]{2,8})*$")] = Field(
        default="en",
        description="Language of the texts that collections have themselves; those in others are their translations.",
    )
    tick_seconds: float = Field(
        default=15, gt=0, description="The scheduler's safety net: how often it looks without having been told to."
    )
    schedule_spread_seconds: float = Field(
        default=21_600,
        ge=0,
        lt=86_400,
        description="Collections with a frequency are due within this time after midnight UTC, each at its own.",
    )
    lease_seconds: float = Field(
        default=30, ge=1, description="How long a worker may be silent before its unit is given to another."
    )
    max_attempts: int = Field(default=5, ge=1, description="How often a unit is tried before it is a dead letter.")
    retry_base_seconds: float = Field(
        default=2, gt=0, description="Delay before the second attempt; then four times more each."
    )
    retry_cap_seconds: float = Field(default=3600, gt=0, description="The longest delay between two attempts.")
    retries: str = Field(
        default=DEFAULT_RETRIES,
        description="The same three by task type: `collect:attempts=8,base=5s,cap=2h;flatten:attempts=3`. What is not "
        "named here is as above.",
    )
    task_limits: Annotated[dict[str, int], NoDecode] = Field(
        default={},
        description="How many units of a task type may run at once, in the whole suite: `collect=4,flatten=2`.",
    )
    host_limit: int = Field(
        default=2, ge=0, description="How many collect units may read from the same host at once; 0: any number."
    )
    republish_after_seconds: float = Field(
        default=120,
        gt=0,
        description="A unit queued this long without being claimed is published again; then after twice that, up to "
        "an hour.",
    )
    failed_data_days: float = Field(
        default=7, ge=0, description="How long the temporary data of a failed job is kept as evidence."
    )
    process_results_days: float = Field(
        default=1, ge=0, description="How long the jobs of processes that are about no collection are kept."
    )
    event_days: float = Field(
        default=7, gt=0, description="How long events, and deliveries that are over, are kept: for clients to catch up."
    )
    concurrency: int = Field(default=1, ge=1, le=64, description="Units a worker process works on at once.")
    grace_seconds: float = Field(
        default=20, ge=0, description="After SIGTERM, how long running work may finish before it is handed back."
    )

    unit_memory_bytes: int = Field(
        default=0,
        ge=0,
        description="A unit whose process uses more memory is stopped, and tried again. 0: no limit but the machine's.",
    )
    unit_timeout_seconds: float = Field(
        default=0, ge=0, description="An attempt at a unit that takes longer is stopped, and tried again. 0: no limit."
    )

    page_size: int = Field(
        default=100, ge=1, le=1000, description="Items a page of the API holds unless asked otherwise."
    )
    api_host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port the API listens on.")
    api_connections: int = Field(
        default=500,
        ge=1,
        description="Connections the API holds at once; more are answered 503. Each download needs two open files.",
    )
    api_request_seconds: float = Field(
        default=30, gt=0, description="How long a request to the API may take to come, its body included."
    )
    api_stall_seconds: float = Field(
        default=60, gt=0, description="How long a client may take none of an answer before the connection is ended."
    )
    api_streams: int = Field(
        default=200, ge=1, description="Streams of events that a process of the API has open at once."
    )
    api_streams_per_address: int = Field(
        default=10,
        ge=1,
        description="How many of them may be of the same address. Behind a proxy: as it says who asks.",
    )
    public_url: str | None = Field(
        default=None,
        description="The API's address as its users see it, with any prefix, for links. Empty: taken from the request.",
    )
    api_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = Field(
        default="",
        description="Path below which the whole API is, such as `/dpr`; probes, metrics and ping are outside it, too.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("127.0.0.1",),
        description="Addresses and networks of proxies, separated by commas, whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed.",
    )
    api_reads_per_minute: int = Field(
        default=1200,
        ge=0,
        description="Reads that an address, or a key's holder, may send the API; 0: any number.",
    )
    api_actions_per_minute: int = Field(default=300, ge=0, description="The same for what changes something.")
    api_wrong_keys_per_minute: int = Field(
        default=20, ge=0, description="Wrong keys that an address may send before none from there is looked at."
    )
    processes_file: Path | None = Field(
        default=None,
        description="YAML file that says which processes the API offers, to whom, and with which inputs fixed "
        "(docs/api.md). Empty: all, as they are.",
    )
    api_validation: Literal["off", "log", "fail"] = Field(
        default="off",
        description="Holds each answer of the API against its documentation: `log` what differs, or `fail` with 500. "
        "For tests and staging.",
    )

    publisher_name: str = Field(
        default="Bowerbird", min_length=1, description="Who publishes, as catalogues, feeds and metadata name them."
    )
    publisher_url: str | None = Field(default=None, description="Their address: `https://…`. Empty: none.")
    download_url: str | None = Field(
        default=None,
        description="Where another server sends the files of `BOWERBIRD_EXPORT_DIR`: downloads of public collections "
        "are redirected there, to `{url}/{source_id}/{job}/{name}`. Empty: the API sends them.",
    )

    metrics_host: str = Field(
        default="127.0.0.1", description="Address on which scheduler and workers answer probes and show their metrics."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for that; 0: any free one, named in the log. Empty: none. `bowerbird up` gives each service "
        "one of its own, from this one on. The API has its own port.",
    )

    allowed_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="What sources may be read from although it is not on the internet: networks, addresses and host "
        "names, separated by commas: `127.0.0.0/8,10.1.0.0/16,intranet.example`.",
    )
    outbound_proxy: str | None = Field(
        default=None,
        description="HTTP proxy through which sources are read: `http://proxy:3128`. It has to refuse what is not to "
        "be reached (docs/deployment.md). Empty: none, whatever `HTTP_PROXY` says.",
    )
    webhook_timeout_seconds: float = Field(
        default=10,
        gt=0,
        description="Connect and read timeout towards receivers of webhooks and callbacks; an attempt takes three "
        "times as long at most.",
    )
    webhook_attempts: int = Field(
        default=12, ge=1, description="How often a delivery is tried before it is given up; 12 take one to two days."
    )
    webhook_patience_days: float = Field(
        default=5, gt=0, description="A webhook of which every delivery has failed for so long is turned off."
    )
    http_timeout_seconds: float = Field(default=30, gt=0, description="Connect and read timeout towards sources.")
    max_download_bytes: int = Field(
        default=100 * 1024**3, gt=0, description="A source whose download is larger is refused."
    )
    max_record_bytes: int = Field(
        default=64 * 1024**2, gt=0, description="A single record larger than this is refused."
    )
    export_share_bytes: int = Field(
        default=1024**3,
        gt=0,
        description="An export of more than this, by the size of what was collected, is shared among several units.",
    )
    flatten_share_bytes: int = Field(
        default=2 * 1024**2,
        gt=0,
        description="Years whose JSON Lines files are larger than this together, compressed, are flattened by several "
        "units. To read fewer in a unit of their own costs more than it gains.",
    )
    xlsx_max_bytes: int = Field(
        default=1024**3, gt=0, description="JSON Lines files larger than this (uncompressed) get CSV only."
    )
    parquet: bool = Field(default=False, description="Whether tables are published as Parquet files, too.")
    csv_guard: bool = Field(
        default=False,
        description="Whether texts in CSV that a spreadsheet would take for formulas (`=`, `+`, `-`, `@`, a tab or a "
        "carriage return comes first) get a `'` before them. Numbers are left alone; Excel files need nothing.",
    )

    scrapyd_url: str | None = Field(
        default=None, description="Where Scrapyd answers, for `collect:scrapyd`: `http://user:password@host:6800`."
    )
    scrapyd_project: str = Field(default="kingfisher", min_length=1, description="The project in Scrapyd.")
    scrapyd_silence_seconds: float = Field(
        default=900,
        gt=0,
        description="A crawl that Scrapyd has forgotten is lost once its log has not grown for so long.",
    )
    kingfisher_collect_files_store: Path | None = Field(
        default=None,
        description="Where Kingfisher Collect puts files, as the collector sees it. Empty: they are not deleted.",
    )
    kingfisher_process_url: str | None = Field(
        default=None, description="Where Kingfisher Process answers, for `process:kingfisher-process`."
    )
    kingfisher_process_database_url: str | None = Field(
        default=None,
        description="Kingfisher Process's database, for `export:kingfisher-process`: `postgresql://…`, read only.",
    )
    pelican_url: str | None = Field(default=None, description="Where the Pelican frontend answers, for `pelican`.")
    collect_error_rate_limit: float = Field(
        default=0.15, ge=0, le=1, description="A crawl with a larger share of errors has failed."
    )
    collect_error_rate_warning: float = Field(
        default=0.01, ge=0, le=1, description="A crawl with a larger share of errors gets a warning."
    )
    peer_timeout_seconds: float = Field(
        default=10, gt=0, description="Connect and read timeout towards Scrapyd, Kingfisher Process and Pelican."
    )
    peer_patience_hours: float = Field(
        default=72, ge=0, description="For how long one of them may be away before what waits for it is given up."
    )
    poll_cap_seconds: float = Field(
        default=60, gt=0, le=3600, description="The longest delay between two questions to one of them."
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log lines shown."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`json` for machines, `console` for people, `auto`: console on a terminal."
    )

    @field_validator("job_tasks_plan", "trusted_proxies", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            try:
                ip_network(part)
            except ValueError as error:
                raise ValueError(f"{error}. Give addresses or networks: 10.0.0.7, 172.16.0.0/12") from None
        return value

    @field_validator("task_limits", mode="before")
    @classmethod
    def _split_limits(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        limits = {}
        for part in filter(None, (part.strip() for part in value.split(","))):
            name, separator, number = part.partition("=")
            if not separator or name.strip() not in TASKS or not number.strip().isdecimal() or int(number) < 1:
                raise ValueError(f"{part!r} is no limit, such as flatten=2. Task types: {', '.join(TASKS)}")
            limits[name.strip()] = int(number)
        return limits

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(_network(part.strip()) for part in parts if part.strip())

    @field_validator("job_tasks_plan")
    @classmethod
    def _check_plan(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        entries = [entry for entry in map(split_entry, value) if entry[0] in TASKS]  # others: when a job is planned
        try:
            check_together([(task_type, spec_of(task_type, backend)) for task_type, backend in entries])
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator(
        "scrapyd_url", "kingfisher_process_url", "pelican_url", "outbound_proxy", "publisher_url", "download_url"
    )
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and not (value.startswith(("http://", "https://")) and urlsplit(value).hostname):
            raise ValueError("must be an http:// or https:// URL")
        return value and value.rstrip("/")

    @field_validator(
        "database_url",
        "broker_url",
        "export_dir",
        "public_url",
        "outbound_proxy",
        "publisher_url",
        "download_url",
        "database_wait_seconds",
        "database_pause_seconds",
        "metrics_port",
        "processes_file",
        "scrapyd_url",
        "kingfisher_collect_files_store",
        "kingfisher_process_url",
        "kingfisher_process_database_url",
        "pelican_url",
        mode="before",
    )
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("database_url", "kingfisher_process_database_url")
    @classmethod
    def _check_database_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql:// (PostgreSQL is the only database)")
        return value

    @field_validator("broker_url")
    @classmethod
    def _check_broker_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("amqp://", "amqps://", "postgresql://", "postgres://")):
            raise ValueError("must start with amqp:// or amqps:// (RabbitMQ), or postgresql:// (PostgreSQL as broker)")
        return value

    @field_validator("retries")
    @classmethod
    def _check_retries(cls, value: str) -> str:
        parse_retries(value)
        return value

    @field_validator("data_dir", "export_dir", "kingfisher_collect_files_store", "processes_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @property
    def exports(self) -> Path:
        """Directory of published files: ``{exports}/{source_id}/{job_id}/{name}``."""
        return self.export_dir or self.data_dir / "exports"

    @property
    def api_url(self) -> str:
        """Where the API is for whoever does not ask it: its public address, or else the one it listens on."""
        return (self.public_url or f"http://{self.api_host}:{self.api_port}").rstrip("/")

    @property
    def scratch(self) -> Path:
        """Directory for files that no one but a running attempt reads."""
        return self.data_dir / "scratch"

    def retry_policy(self, task_type: str) -> RetryPolicy:
        """Return how often, and after which delays, units of a task type are tried."""
        words = parse_retries(self.retries).get(task_type, {})
        return RetryPolicy(
            attempts=int(words.get("attempts", self.max_attempts)),
            base_seconds=words.get("base", self.retry_base_seconds),
            cap_seconds=words.get("cap", self.retry_cap_seconds),
        )

    @property
    def lease(self) -> timedelta:
        """The lease as a duration."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def limits(self) -> Limits:
        """How many units may run at once."""
        return Limits(self.task_limits, self.host_limit)

    @property
    def schedule_spread(self) -> timedelta:
        """The spread as a duration."""
        return timedelta(seconds=self.schedule_spread_seconds)

    @property
    def stuck_after(self) -> timedelta:
        """How long a job may stand still: by then whatever repairs itself is repaired, twice (shared/stuck.py)."""
        return timedelta(seconds=self.lease_seconds + 2 * (self.republish_after_seconds + self.tick_seconds))

    def environment(self) -> dict[str, str]:
        """Return the variables that give a child process these same settings."""
        values: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                values[PREFIX + name.upper()] = _written(value)
        return values


def _network(text: str) -> str:
    """Return a network, an address or a host's name as it is compared. Raise ValueError."""
    try:
        return str(ip_network(text))
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(
                f"{text!r} has bits beyond its length; did you mean {ip_network(text, strict=False)}?"
            ) from None
    name = text.lower().rstrip(".")
    if not HOST_NAME.fullmatch(name) or name.rpartition(".")[2].isdecimal():
        raise ValueError(f"{text!r} is no network (10.1.0.0/16), address (10.1.2.3) or host name (intranet.example)")
    return name


def _written(value: Any) -> str:
    """Return a value as an environment variable has it."""
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    return ",".join(value) if isinstance(value, tuple) else str(value)


def environment_variables() -> Mapping[str, str]:
    """Return all variables: values of the processes file may name any."""
    return os.environ


def trace_settings() -> dict[str, str]:
    """Return the variables that say where traces go: the standard's own (``OTEL_…``), which its library reads too."""
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_") and value}


def certificate_bundle() -> str | None:
    """Return the file of certificate authorities to trust instead of the usual ones, as ``requests`` is told it."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


def load_settings(**overrides: Any) -> Settings:
    """Read the environment. Raise :class:`ConfigurationError` naming each wrong variable and its value's fault.

    A variable with our prefix that names no setting is a mistake worth stopping for: a typing error would otherwise
    silently run the default.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise ConfigurationError(f"No such setting: {', '.join(unknown)}. docs/settings.md lists them all.")
    try:
        return _with_file(Settings(**overrides))
    except ValidationError as error:
        lines = [
            f"{PREFIX}{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        raise ConfigurationError("; ".join(lines) + ". docs/settings.md explains each.") from error


def _with_file(settings: Settings) -> Settings:
    """Return the settings with what the processes file says of the database, unless a variable does."""
    if settings.processes_file is None:
        return settings
    from shared.processes_file import read_file  # noqa: PLC0415  which imports this module, and is rarely needed

    url = read_file(settings.processes_file, os.environ).database_url
    return settings.model_copy(update={"database_url": url}) if url and settings.database_url is None else settings

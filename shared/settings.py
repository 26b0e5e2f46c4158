"""All settings, typed, in one place. Environment variables start with ``BOWERBIRD_``; docs/settings.md is the table.

Settings are read once, by the process's entry point, and passed on: nothing reads the environment at import.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import ConfigurationError

PREFIX = "BOWERBIRD_"


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

    job_tasks_plan: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("collect", "process", "export", "coverage", "flatten"),
        description="The tasks of a job, in order, separated by commas. A collection can have its own.",
    )
    tick_seconds: float = Field(
        default=15, gt=0, description="The scheduler's safety net: how often it looks without having been told to."
    )
    lease_seconds: float = Field(
        default=30, ge=1, description="How long a worker may be silent before its unit is given to another."
    )
    max_attempts: int = Field(default=5, ge=1, description="How often a unit is tried before it is a dead letter.")
    retry_base_seconds: float = Field(
        default=2, gt=0, description="Delay before the second attempt; then four times more each."
    )
    retry_cap_seconds: float = Field(default=3600, gt=0, description="The longest delay between two attempts.")
    republish_after_seconds: float = Field(
        default=120, gt=0, description="A unit queued this long without being claimed is published again."
    )
    failed_data_days: float = Field(
        default=7, ge=0, description="How long the temporary data of a failed job is kept as evidence."
    )
    concurrency: int = Field(default=1, ge=1, le=64, description="Units a worker process works on at once.")
    grace_seconds: float = Field(
        default=20, ge=0, description="After SIGTERM, how long running work may finish before it is handed back."
    )

    page_size: int = Field(
        default=100, ge=1, le=1000, description="Items a page of the API holds unless asked otherwise."
    )
    api_host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port the API listens on.")
    public_url: str | None = Field(
        default=None, description="The API's address as its users see it, for links. Empty: taken from the request."
    )

    http_timeout_seconds: float = Field(default=30, gt=0, description="Connect and read timeout towards sources.")
    max_download_bytes: int = Field(
        default=100 * 1024**3, gt=0, description="A source whose download is larger is refused."
    )
    max_record_bytes: int = Field(
        default=64 * 1024**2, gt=0, description="A single record larger than this is refused."
    )
    xlsx_max_bytes: int = Field(
        default=1024**3, gt=0, description="JSON Lines files larger than this (uncompressed) get CSV only."
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log lines shown."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`json` for machines, `console` for people, `auto`: console on a terminal."
    )

    @field_validator("job_tasks_plan", mode="before")
    @classmethod
    def _split_plan(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("database_url", "broker_url", "export_dir", "public_url", mode="before")
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("database_url")
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

    @field_validator("data_dir", "export_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @property
    def exports(self) -> Path:
        """Directory of published files: ``{exports}/{source_id}/{job_id}/{name}``."""
        return self.export_dir or self.data_dir / "exports"

    @property
    def scratch(self) -> Path:
        """Directory for files that no one but a running attempt reads."""
        return self.data_dir / "scratch"

    @property
    def lease(self) -> timedelta:
        """The lease as a duration."""
        return timedelta(seconds=self.lease_seconds)

    def environment(self) -> dict[str, str]:
        """Return the variables that give a child process these same settings."""
        values: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                values[PREFIX + name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
        return values


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
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"{PREFIX}{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        raise ConfigurationError("; ".join(lines) + ". docs/settings.md explains each.") from error

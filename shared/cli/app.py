"""The commands, their arguments and their help. Each imports what does its work only when it is called."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.cli.errors import WrongCallError, in_words

LINE, COLLECTIONS, OPERATION, SERVICES = "The whole suite", "Collections and jobs", "Operation", "Single services"

app = typer.Typer(
    name="bowerbird",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Keep open data published: collect, compile, export, flatten, serve.

Try it:  `bowerbird demo`

Your own data:  `bowerbird publish PATH-OR-URL`

Without settings everything is kept on this machine, with a database of its own; `bowerbird settings` lists them.
""",
)


class JobGroup(typer.core.TyperGroup):
    """Makes ``job 7`` short for ``job show 7``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve a number to ``show``."""
        return super().resolve_command(ctx, ["show", *args] if args and args[0].isdigit() else args)


job_app = typer.Typer(
    cls=JobGroup, no_args_is_help=True, rich_markup_mode="markdown", help="Show and steer a job: `bowerbird job 7`."
)
app.add_typer(job_app, name="job", rich_help_panel=COLLECTIONS)
dead_app = typer.Typer(
    cls=JobGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Dead letters: units that gave up, messages nobody understood. List, replay, discard.",
)
app.add_typer(dead_app, name="dead", rich_help_panel=OPERATION)
pause_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Start nothing new of a collection, or from a queue. Work that runs finishes.",
)
app.add_typer(pause_app, name="pause", rich_help_panel=OPERATION)
resume_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="End a pause.")
app.add_typer(resume_app, name="resume", rich_help_panel=OPERATION)


def command(
    name: str | None = None, *, panel: str, of: typer.Typer = app, **options: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose errors become one line."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **values: Any) -> None:
            with in_words():
                function(*args, **values)

        return of.command(name, rich_help_panel=panel, **options)(guarded)

    return register


Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]
Source = Annotated[str, typer.Argument(help="A file, a directory, or an http(s):// URL.", metavar="SOURCE")]
IdField = Annotated[
    str | None,
    typer.Option("--id-field", metavar="PATH", help="Dotted path of the id in records that are not OCDS: `item.id`."),
]
DateField = Annotated[
    str | None,
    typer.Option("--date-field", metavar="PATH", help="Dotted path of the date that says which year a record is of."),
]
RecordsPath = Annotated[
    str | None,
    typer.Option(
        "--records-path",
        metavar="PATH",
        help="Dotted path of the array of records in each file; `.` for files that only look like OCDS packages.",
    ),
]
KeepAllData = Annotated[
    bool, typer.Option("--keep-all-data", help="Keep the job's temporary data (collected records) in the database.")
]
Name = Annotated[str, typer.Argument(help="The collection's name.", metavar="NAME")]


@command(panel=LINE)
def demo() -> None:
    """Publish the bundled sample on this machine and check everything that was made.

    Starts the database and all services, runs one job, asks the API about it, stops everything. Status 0 only if all
    of it worked.

    Example: `bowerbird demo`
    """
    from shared.cli.demo import demo

    demo()


@command(panel=LINE)
def up(
    *, quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not show the services' log lines.")] = False
) -> None:
    """Run all services on this machine, the API included, until Ctrl-C.

    Brings the database up to date first. If no collection is registered yet, the bundled sample is, and gets a job.
    Services that end unexpectedly are started again. Logs are in the data directory, under `logs`.

    Example: `BOWERBIRD_API_PORT=9000 bowerbird up --quiet`
    """
    from shared.cli.up import up

    up(quiet=quiet)


@command(panel=LINE)
def publish(
    source: Source,
    *,
    directory: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to put the files. Default: `./NAME`.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what was published in DIR before.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The collection's name. Default: from SOURCE.")
    ] = None,
    id_field: IdField = None,
    date_field: DateField = None,
    records_path: RecordsPath = None,
    public: Annotated[
        bool | None,
        typer.Option("--public/--private", help="Whether the API shows it to everyone. A new collection: public."),
    ] = None,
    keep_all_data: KeepAllData = False,
    as_json: Json = False,
) -> None:
    """Publish one source: JSON Lines, CSV and Excel in a directory.

    Runs the whole line once on this machine, with its own services and the embedded database, or the configured one
    (which it brings up to date). Publishing the same source again uses the same collection.

    Example: `bowerbird publish releases.json.gz --out exports`

    Example: `bowerbird publish data.jsonl --id-field item.id --date-field item.updated --json | jq .files`
    """
    from shared.cli.publish import publish

    publish(
        source,
        directory=directory,
        force=force,
        name=name,
        options={"id_field": id_field, "date_field": date_field, "records_path": records_path},
        public=public,
        keep_all_data=keep_all_data,
        as_json=as_json,
    )


@command(panel=COLLECTIONS)
def add(
    name: Annotated[str, typer.Argument(help="A name for paths and commands: `a-z 0-9 - _`.", metavar="NAME")],
    source: Source,
    *,
    title: Annotated[str, typer.Option(help="What people see. Default: the name.")] = "",
    country: Annotated[str, typer.Option(help="The country's name.")] = "",
    frequency: Annotated[
        str,
        typer.Option(
            metavar="FREQUENCY",
            help="How often to collect: weekly, biweekly, monthly, half-yearly, annually, never. Default: on request.",
        ),
    ] = "",
    public: Annotated[
        bool, typer.Option("--public/--private", help="Whether the API shows it to everyone, or to operators only.")
    ] = True,
    id_field: IdField = None,
    date_field: DateField = None,
    records_path: RecordsPath = None,
    plan: Annotated[
        str | None,
        typer.Option(metavar="TASKS", help="Its own tasks, in order, separated by commas. Default: the setting."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Register a collection: a source that is to be kept published.

    Collections are public unless you say `--private`: publishing is what they are for.

    Example: `bowerbird add moldova https://example.org/releases.zip --country Moldova --frequency monthly`
    """
    from shared.cli.collections import add

    add(
        name,
        source,
        title=title,
        country=country,
        frequency=frequency,
        public=public,
        options={"id_field": id_field, "date_field": date_field, "records_path": records_path},
        plan=plan,
        as_json=as_json,
    )


@command(panel=COLLECTIONS)
def run(
    name: Name,
    *,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Follow the job; status 1 if it fails.")] = False,
    keep_all_data: KeepAllData = False,
    as_json: Json = False,
) -> None:
    """Run a job of a collection now.

    The services that are running do the work: `bowerbird up`, or those of a deployment.

    Example: `bowerbird run moldova --wait`
    """
    from shared.cli.collections import run

    run(name, wait=wait, keep_all_data=keep_all_data, as_json=as_json)


@command(panel=COLLECTIONS)
def collections(*, as_json: Json = False) -> None:
    """List the collections."""
    from shared.cli.collections import collections

    collections(as_json=as_json)


@command(panel=COLLECTIONS)
def jobs(
    name: Annotated[str | None, typer.Argument(help="Only those of this collection.", metavar="NAME")] = None,
    *,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only those that are planned, running or completed.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """List jobs, newest first.

    Example: `bowerbird jobs moldova --status completed --limit 5`
    """
    from shared.cli.collections import jobs

    jobs(name, status=status, limit=limit, as_json=as_json)


JobId = Annotated[int, typer.Argument(help="The job's number.", metavar="JOB", min=1)]


@command("show", panel=COLLECTIONS, of=job_app)
def job(
    job_id: JobId,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end; status 1 if it fails.")] = False,
    as_json: Json = False,
) -> None:
    """Show a job: its tasks, notes, errors and files. `job 7` is short for `job show 7`.

    Example: `bowerbird job 7 --watch`
    """
    from shared.cli.collections import job

    job(job_id, watch=watch, as_json=as_json)


@command("cancel", panel=COLLECTIONS, of=job_app)
def job_cancel(
    job_id: JobId,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the job.")] = "",
    as_json: Json = False,
) -> None:
    """End a job now. Running work is stopped within seconds; what is published already stays.

    Example: `bowerbird job cancel 7 --reason "wrong source"`
    """
    from shared.cli.collections import cancel

    cancel(job_id, reason=reason, as_json=as_json)


@command("restart", panel=COLLECTIONS, of=job_app)
def job_restart(
    job_id: JobId,
    *,
    from_task: Annotated[
        str | None,
        typer.Option("--from", metavar="TASK", help="The first task to do again. [default: the first not OK]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Do a job again from a task on. Safe while an old worker is still at it.

    Example: `bowerbird job restart 7 --from export`
    """
    from shared.cli.collections import restart

    restart(job_id, from_task=from_task, as_json=as_json)


@command(panel=COLLECTIONS)
def files(
    ref: Annotated[str, typer.Argument(help="A job's number, or a collection's name.", metavar="JOB|NAME")],
    *,
    as_json: Json = False,
) -> None:
    """List the files of a job, or those that a collection publishes now.

    Example: `bowerbird files moldova --json | jq -r '.[].path'`
    """
    from shared.cli.collections import files

    files(ref, as_json=as_json)


@command(panel=OPERATION)
def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show the services of this machine, the queues, and the jobs in progress."""
    from shared.cli.status import status

    if watch and as_json:
        raise WrongCallError("--watch is for people, --json for programs: choose one.")
    status(watch=watch, as_json=as_json)


LetterIds = Annotated[list[int] | None, typer.Argument(help="Numbers of dead letters.", metavar="[LETTER]...", min=1)]
OfJob = Annotated[int | None, typer.Option("--job", metavar="JOB", help="Only those of this job.", min=1)]
OfCollection = Annotated[str | None, typer.Option("--collection", metavar="NAME", help="Only those of its jobs.")]
OfQueue = Annotated[str | None, typer.Option("--queue", metavar="QUEUE", help="Only those of this queue: `exporter`.")]
OfReason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Only those whose reason contains this.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only those of this last time: `90m`, `2d`.")
]
Every = Annotated[bool, typer.Option("--all", help="All of them, where nothing else is said.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before more than one.")]


@command("list", panel=OPERATION, of=dead_app)
def dead_list(
    ids: LetterIds = None,
    *,
    job: OfJob = None,
    collection: OfCollection = None,
    queue: OfQueue = None,
    reason: OfReason = "",
    since: Since = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Also those that were replayed or discarded.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """List dead letters, the newest first.

    Example: `bowerbird dead list --queue exporter --since 2d --reason "disk"`
    """
    from shared.cli.dead import list_dead, selection

    chosen = selection(ids, job=job, collection=collection, queue=queue, reason=reason, since=since, resolved=resolved)
    list_dead(chosen, limit=limit, as_json=as_json)


@command("show", panel=OPERATION, of=dead_app)
def dead_show(
    ids: Annotated[list[int], typer.Argument(help="Numbers of dead letters.", metavar="LETTER...", min=1)],
    *,
    as_json: Json = False,
) -> None:
    """Show dead letters with traceback and original body. `dead 7` is short for `dead show 7`."""
    from shared.cli.dead import show_dead

    show_dead(ids, as_json=as_json)


@command("replay", panel=OPERATION, of=dead_app)
def dead_replay(
    ids: LetterIds = None,
    *,
    job: OfJob = None,
    collection: OfCollection = None,
    queue: OfQueue = None,
    reason: OfReason = "",
    since: Since = None,
    every: Every = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Try dead letters again: a unit from its first attempt, with its job going on; a message as it was.

    Repeating it changes nothing. Status 1 if one is refused; the reason says what to do.

    Example: `bowerbird dead replay --job 7`
    """
    from shared.cli.dead import act, selection

    chosen = selection(ids, job=job, collection=collection, queue=queue, reason=reason, since=since, every=every)
    act("replay", chosen, dry_run=dry_run, yes=yes, as_json=as_json)


@command("discard", panel=OPERATION, of=dead_app)
def dead_discard(
    ids: LetterIds = None,
    *,
    job: OfJob = None,
    collection: OfCollection = None,
    queue: OfQueue = None,
    reason: OfReason = "",
    since: Since = None,
    every: Every = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Settle dead letters without trying them again. They stay in `dead list --resolved`.

    Example: `bowerbird dead discard --collection moldova --yes`
    """
    from shared.cli.dead import act, selection

    chosen = selection(ids, job=job, collection=collection, queue=queue, reason=reason, since=since, every=every)
    act("discard", chosen, dry_run=dry_run, yes=yes, as_json=as_json)


@command(panel=OPERATION)
def replay(
    *,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Published within this time: `90m`, `2d`. Default: ever."),
    ] = None,
    queue: OfQueue = None,
    job: OfJob = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Publish the messages of waiting work again, after a broker lost them. Harmless where they still exist.

    The scheduler does so too, some time after a message was published; this is for now.

    Example: `bowerbird replay --since 1h --queue exporter`
    """
    from shared.cli.steer import replay

    replay(since=since, queue=queue, job_id=job, dry_run=dry_run, as_json=as_json)


QueueName = Annotated[
    str, typer.Argument(help="A worker service: `collector`, `exporter`, …; or its queue.", metavar="QUEUE")
]


@command("collection", panel=OPERATION, of=pause_app)
def pause_collection(name: Name, *, as_json: Json = False) -> None:
    """Start no job, task or unit of a collection until it is resumed.

    Example: `bowerbird pause collection moldova`
    """
    from shared.cli.steer import pause

    pause("collection", name, as_json=as_json)


@command("queue", panel=OPERATION, of=pause_app)
def pause_queue(name: QueueName, *, as_json: Json = False) -> None:
    """Let no worker of a service take anything up until its queue is resumed.

    Example: `bowerbird pause queue exporter`
    """
    from shared.cli.steer import pause

    pause("queue", name, as_json=as_json)


@command("collection", panel=OPERATION, of=resume_app)
def resume_collection(name: Name, *, as_json: Json = False) -> None:
    """Go on with a collection.

    Example: `bowerbird resume collection moldova`
    """
    from shared.cli.steer import resume

    resume("collection", name, as_json=as_json)


@command("queue", panel=OPERATION, of=resume_app)
def resume_queue(name: QueueName, *, as_json: Json = False) -> None:
    """Go on with a queue.

    Example: `bowerbird resume queue exporter`
    """
    from shared.cli.steer import resume

    resume("queue", name, as_json=as_json)


@command(panel=OPERATION)
def migrate(
    *,
    revision: Annotated[str, typer.Option(metavar="REVISION", help="Which one; `head` is the newest.")] = "head",
    down: Annotated[bool, typer.Option("--down", help="Go back to it. Data in tables it lacks is lost.")] = False,
) -> None:
    """Bring a configured database up to date.

    `up`, `demo` and `publish` do so themselves, and so does every command with the embedded database.
    """
    from shared.cli.services import migrate

    if down and revision == "head":
        raise WrongCallError("--down needs a --revision to go back to (base: no tables).")
    migrate(revision, down=down)


@command(panel=OPERATION)
def settings(
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
    as_json: Json = False,
) -> None:
    """Print every setting: its value, its default, what it means. Passwords are masked."""
    from shared.cli.services import settings_table

    settings_table(markdown=markdown, as_json=as_json)


@command("delete-jobs", panel=OPERATION)
def delete_jobs(*, dry_run: DryRun = False) -> None:
    """Delete jobs that are not needed any longer, and say of each job why it stays or goes.

    Unsuccessful ones after 180 days; older successful ones, but never the active job, the newest beside it, or one with
    over 10% more records. The scheduler does so after each success.

    Example: `bowerbird delete-jobs --dry-run`
    """
    from shared.cli.retention import delete_jobs

    delete_jobs(dry_run=dry_run)


@command(panel=SERVICES)
def scheduler(
    *,
    once: Annotated[bool, typer.Option("--once", help="Make one pass over what is due, then end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is due, then end.")] = False,
) -> None:
    """Run the scheduler: what is due, next tasks, retries, recovery.

    Example: `bowerbird scheduler --dry-run`
    """
    _run("scheduler", *(["--once"] if once else []), *(["--dry-run"] if dry_run else []))


@command(panel=SERVICES)
def collector() -> None:
    """Run a collector: brings records in from files, directories and URLs."""
    _run("collector")


@command(panel=SERVICES)
def processor() -> None:
    """Run a processor: compiles releases, counts fields."""
    _run("processor")


@command(panel=SERVICES)
def exporter() -> None:
    """Run an exporter: writes JSON Lines files."""
    _run("exporter")


@command(panel=SERVICES)
def flattener() -> None:
    """Run a flattener: turns JSON Lines into CSV and Excel."""
    _run("flattener")


@command(panel=SERVICES)
def api() -> None:
    """Run the API."""
    _run("api")


def _run(service: str, *arguments: str) -> None:
    from shared.cli.services import run_service

    run_service(service, *arguments)

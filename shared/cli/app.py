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
licence_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Licences that collections name: list, add, edit, remove."
)
app.add_typer(licence_app, name="licence", rich_help_panel=COLLECTIONS)
bundle_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Settings bundles for spiders of another system: list, add, edit, remove.",
)
app.add_typer(bundle_app, name="bundle", rich_help_panel=COLLECTIONS)
issue_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Issues of collections' data: list, add, edit, remove."
)
app.add_typer(issue_app, name="issue", rich_help_panel=COLLECTIONS)
task_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Steer one task of a job.")
app.add_typer(task_app, name="task", rich_help_panel=COLLECTIONS)


@task_app.callback()
def _task() -> None:
    """Steer one task of a job."""


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

key_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Keys for the API: who may read everything, steer, or delete. Make, list, rotate, revoke.",
)
app.add_typer(key_app, name="key", rich_help_panel=OPERATION)
webhook_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Webhooks: who is told of jobs, and whether they listen."
)
app.add_typer(webhook_app, name="webhook", rich_help_panel=OPERATION)


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
IgnoreThresholds = Annotated[
    bool,
    typer.Option("--ignore-thresholds", help="Publish it whatever the collection's quality thresholds say; audited."),
]
KeepAllData = Annotated[
    bool, typer.Option("--keep-all-data", help="Keep the job's temporary data (collected records) in the database.")
]
Name = Annotated[str, typer.Argument(help="The collection's name.", metavar="NAME")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before more than one.")]


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
    source: Annotated[
        str,
        typer.Argument(help="A file, a directory, or an http(s):// URL; none if Scrapyd collects.", metavar="SOURCE"),
    ] = "",
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
    cron: Annotated[
        str,
        typer.Option(metavar="CRON", help="Instead: when to collect, in the five fields of cron: `0 3 * * MON`."),
    ] = "",
    time_zone: Annotated[
        str, typer.Option("--time-zone", metavar="ZONE", help="Of --cron: `Europe/Madrid`. Default: UTC.")
    ] = "",
    catch_up: Annotated[
        bool, typer.Option("--catch-up/--no-catch-up", help="Make up, once, for times of --cron that were missed.")
    ] = True,
    priority: Annotated[
        int, typer.Option(metavar="NUMBER", help="Its work goes before that of lower ones: -100 to 100.")
    ] = 0,
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
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK:BACKEND", help="Who does a task, as in `collect:scrapyd`. Repeatable; docs/remote.md."
        ),
    ] = None,
    spider: Annotated[str | None, typer.Option(help="The spider that Scrapyd runs. Default: the name.")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="CHECK=SHARE",
            help="Publish only if at least this share passes a quality check, or each of a severity: "
            "`references.awards=0.95`, `error=0.9`. Several: give it again. `bowerbird quality` lists the checks.",
        ),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A JSON Schema of its own, which every record is checked against."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Register a collection: a source that is to be kept published.

    Collections are public unless you say `--private`: publishing is what they are for.

    Example: `bowerbird add moldova https://example.org/releases.zip --country Moldova --frequency monthly`

    Example: `bowerbird add my-city data/ --cron "30 5 * * MON-FRI" --time-zone America/Bogota`

    Example: `bowerbird add moldova releases.json --threshold error=0.9 --threshold references.awards=1`
    """
    from shared.cli.collections import add
    from shared.cli.quality import expectations

    options = {"id_field": id_field, "date_field": date_field, "records_path": records_path}
    add(
        name,
        source,
        title=title,
        country=country,
        frequency=frequency,
        schedule={"cron": cron, "time_zone": time_zone, "catch_up": catch_up},
        priority=priority,
        public=public,
        options=options | {"spider": spider} | expectations(threshold or [], schema),
        plan=plan,
        backends=backend or [],
        as_json=as_json,
    )


@command(panel=COLLECTIONS)
def backends(
    name: Name,
    chosen: Annotated[
        list[str] | None,
        typer.Argument(help="`collect:scrapyd`, …; `native`: all of ours.", metavar="[TASK:BACKEND]..."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show who does each task of a collection, or choose it, for its next jobs.

    Jobs in progress go on as they were planned. Several choices are made at once, as some go only together.

    Example: `bowerbird backends moldova collect:scrapyd process:kingfisher-process export:kingfisher-process`
    """
    from shared.cli.collections import backends

    backends(name, chosen or [], as_json=as_json)


@command(panel=COLLECTIONS)
def run(
    name: Name,
    *,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Follow the job; status 1 if it fails.")] = False,
    keep_all_data: KeepAllData = False,
    ignore_thresholds: IgnoreThresholds = False,
    as_json: Json = False,
) -> None:
    """Run a job of a collection now.

    The services that are running do the work: `bowerbird up`, or those of a deployment.

    Example: `bowerbird run moldova --wait`
    """
    from shared.cli.collections import run

    run(name, wait=wait, keep_all_data=keep_all_data, ignore_thresholds=ignore_thresholds, as_json=as_json)


Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only those that meet it: `public`, `not-frozen`, `frequency=monthly`, … Several: all of them. "
        "`bowerbird conditions` lists what there is.",
    ),
]


@command(panel=COLLECTIONS)
def collections(*, where: Where = None, as_json: Json = False) -> None:
    """List the collections.

    Example: `bowerbird collections --where public --where not-licence`
    """
    from shared.cli.collections import collections
    from shared.cli.edit import where_of

    collections(where=where_of(where or []), as_json=as_json)


@command(panel=COLLECTIONS)
def conditions(*, as_json: Json = False) -> None:
    """List the conditions that `--where` takes."""
    from shared.cli.output import show, show_json, show_table
    from shared.selection import CONDITIONS

    if as_json:
        show_json([{"name": name, "value": each.value, "meaning": each.meaning} for name, each in CONDITIONS.items()])
        return
    rows = [(f"{name}={each.value}" if each.value else name, each.meaning) for name, each in CONDITIONS.items()]
    show_table(["condition", "met if"], rows, empty="")
    show("Put not- before one to turn it round: not-public.")


def _field(flag: str, text: str, metavar: str = "TEXT") -> Any:
    return typer.Option(flag, metavar=metavar, help=text, rich_help_panel="What to change")


EditText = str | None


@command(panel=COLLECTIONS)
def edit(
    names: Annotated[list[str] | None, typer.Argument(help="Names of collections.", metavar="NAME")] = None,
    *,
    where: Where = None,
    every: Annotated[bool, typer.Option("--all", help="All collections, where no NAME or --where says less.")] = False,
    title: Annotated[EditText, _field("--title", "What people see, without the country.")] = None,
    country: Annotated[EditText, _field("--country", "The country's official name.")] = None,
    flag: Annotated[EditText, _field("--flag", "File name of an image of the flag.", "FILE")] = None,
    region: Annotated[EditText, _field("--region", "MEA, AS, EECA, EU, LAC, NA or OC.", "REGION")] = None,
    language: Annotated[EditText, _field("--language", "Languages of the data's values, in words.")] = None,
    description: Annotated[EditText, _field("--description", "First paragraph, Markdown.")] = None,
    description_long: Annotated[EditText, _field("--description-long", "The other paragraphs, Markdown.")] = None,
    additional_data: Annotated[EditText, _field("--additional-data", "What data there is, Markdown.")] = None,
    summary: Annotated[EditText, _field("--summary", "Quality of the data in short, Markdown.")] = None,
    reviewed: Annotated[EditText, _field("--reviewed", "When that was confirmed; `today`.", "DATE")] = None,
    no_data_rationale: Annotated[EditText, _field("--no-data-rationale", "Why nothing is published, Markdown.")] = None,
    frequency: Annotated[
        EditText, _field("--frequency", "How often to collect; `never`; blank: on request.", "FREQUENCY")
    ] = None,
    cron: Annotated[EditText, _field("--cron", "Instead of a frequency: `0 3 * * MON`.", "CRON")] = None,
    time_zone: Annotated[EditText, _field("--time-zone", "Of --cron; blank: UTC.", "ZONE")] = None,
    catch_up: Annotated[
        bool | None,
        typer.Option(
            "--catch-up/--no-catch-up",
            help="Whether to make up, once, for times of --cron that were missed.",
            rich_help_panel="What to change",
        ),
    ] = None,
    priority: Annotated[EditText, _field("--priority", "Higher goes first: -100 to 100.", "NUMBER")] = None,
    update_frequency: Annotated[
        EditText, _field("--update-frequency", "How often the source updates.", "FREQUENCY")
    ] = None,
    source_url: Annotated[EditText, _field("--source-url", "Where people find the source.", "URL")] = None,
    source: Annotated[EditText, _field("--source", "What the collector reads.", "SOURCE")] = None,
    id_field: Annotated[EditText, _field("--id-field", "As for `bowerbird add`.", "PATH")] = None,
    date_field: Annotated[EditText, _field("--date-field", "As for `bowerbird add`.", "PATH")] = None,
    records_path: Annotated[EditText, _field("--records-path", "As for `bowerbird add`.", "PATH")] = None,
    threshold: Annotated[
        list[str] | None, _field("--threshold", "All its thresholds, each; blank: none any more.", "CHECK=SHARE")
    ] = None,
    schema: Annotated[Path | None, _field("--schema", "A JSON Schema of its own.", "FILE")] = None,
    plan: Annotated[EditText, _field("--plan", "Its own tasks; blank: the setting's.", "TASKS")] = None,
    bundle: Annotated[EditText, _field("--bundle", "A settings bundle, by name or number.", "BUNDLE")] = None,
    licence: Annotated[EditText, _field("--licence", "A licence, by name or number.", "LICENCE")] = None,
    publication_policy: Annotated[EditText, _field("--publication-policy", "Of the publisher.", "URL")] = None,
    date_from: Annotated[EditText, _field("--date-from", "Instead of what the job found.", "DATE")] = None,
    date_to: Annotated[EditText, _field("--date-to", "Instead of what the job found.", "DATE")] = None,
    ocid_prefix: Annotated[EditText, _field("--ocid-prefix", "Instead of what the job found.")] = None,
    active_job: Annotated[
        EditText, _field("--active-job", "A successful job whose files to publish instead; blank: none.", "JOB")
    ] = None,
    frozen: Annotated[
        bool | None,
        typer.Option("--freeze/--unfreeze", help="Whether to collect it, for now.", rich_help_panel="What to change"),
    ] = None,
    public: Annotated[
        bool | None,
        typer.Option("--public/--private", help="Whether everyone may see it.", rich_help_panel="What to change"),
    ] = None,
    translation: Annotated[
        list[str] | None,
        _field("--translation", "A text in another language; blank: take it away.", "LANGUAGE.FIELD=TEXT"),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Change collections: one by its name, or many, after a preview and a question.

    A blank value (`""`) clears. A text that begins with `@` is the path of a file that has it; `@-`: standard input.

    Example: `bowerbird edit moldova --frequency monthly --licence "CC BY 4.0" --description @moldova.md`

    Example: `bowerbird edit --where region=LAC --where not-public --freeze --dry-run`

    Example: `bowerbird edit moldova --translation es.title=Contratos --translation ru.country=Молдова`
    """
    from shared.cli.edit import edit
    from shared.cli.quality import changed_expectations

    given = {
        "title": title,
        "country": country,
        "country_flag": flag,
        "region": region,
        "language": language,
        "description": description,
        "description_long": description_long,
        "additional_data": additional_data,
        "summary": summary,
        "last_reviewed": reviewed,
        "no_data_rationale": no_data_rationale,
        "frequency": frequency,
        "cron": cron,
        "time_zone": time_zone,
        "catch_up": catch_up,
        "priority": priority,
        "update_frequency": update_frequency,
        "source_url": source_url,
        "source": source,
        "plan": plan,
        "bundle": bundle,
        "licence": licence,
        "publication_policy": publication_policy,
        "date_from": date_from,
        "date_to": date_to,
        "ocid_prefix": ocid_prefix,
        "active_job": active_job,
        "frozen": frozen,
        "public": public,
    }
    edit(
        names or [],
        where=where or [],
        every=every,
        given=given,
        translations=translation or [],
        options={"id_field": id_field, "date_field": date_field, "records_path": records_path}
        | changed_expectations(threshold, schema),
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@command(panel=COLLECTIONS)
def remove(
    name: Name,
    *,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a collection, with its jobs and their files, for good. Refused while a job of it is not completed.

    To take it from the public for a while, use `bowerbird edit NAME --private`; to stop collecting it, `--freeze`.

    Example: `bowerbird remove moldova --dry-run`
    """
    from shared.cli.edit import remove

    remove(name, dry_run=dry_run, yes=yes, as_json=as_json)


@command(panel=COLLECTIONS)
def jobs(
    name: Annotated[str | None, typer.Argument(help="Only those of this collection.", metavar="NAME")] = None,
    *,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only those that are planned, running or completed.")
    ] = None,
    result: Annotated[
        str | None, typer.Option(metavar="RESULT", help="Only those that ended so: ok, failed, cancelled.")
    ] = None,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only those that should move and do not (docs/operations.md says when).")
    ] = False,
    active: Annotated[
        bool | None, typer.Option("--active/--not-active", help="Only those whose files are published, or are not.")
    ] = None,
    archived: Annotated[
        bool | None,
        typer.Option("--archived/--not-archived", help="Only those whose temporary data is deleted, or is not."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Planned within this last time: `90m`, `2d`.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """List jobs, newest first.

    Example: `bowerbird jobs moldova --status completed --limit 5`

    Example: `bowerbird jobs --result failed --since 7d`
    """
    from shared.cli.collections import jobs
    from shared.cli.steer import duration_of

    jobs(
        name,
        status=status,
        result=result,
        stuck=stuck,
        active=active,
        archived=archived,
        since=duration_of(since) if since is not None else None,
        limit=limit,
        as_json=as_json,
    )


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
    ignore_thresholds: IgnoreThresholds = False,
    as_json: Json = False,
) -> None:
    """Do a job again from a task on. Safe while an old worker is still at it.

    Example: `bowerbird job restart 7 --from export`
    """
    from shared.cli.collections import restart

    restart(job_id, from_task=from_task, ignore_thresholds=ignore_thresholds, as_json=as_json)


@command(panel=COLLECTIONS)
def quality(
    ref: Annotated[
        str | None,
        typer.Argument(help="A job's number, or a collection's name: its newest report.", metavar="[JOB|NAME]"),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what the quality checks found in a job's records. Without a job: the checks that there are.

    Example: `bowerbird quality moldova --json | jq -r '.checks[] | select(.failed > 0).id'`
    """
    from shared.cli.quality import quality

    quality(ref, as_json=as_json)


@command("keep", panel=COLLECTIONS, of=job_app)
def job_keep(
    job_id: JobId,
    *,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Keep the temporary data, or delete it in its time.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Keep a job's temporary data (collected records) as evidence, or no longer.

    Example: `bowerbird job keep 7`

    Example: `bowerbird job keep 7 --no-keep`
    """
    from shared.cli.collections import keep as keep_job

    keep_job(job_id, keep=keep, as_json=as_json)


@command(panel=COLLECTIONS)
def notes(
    job_id: JobId,
    *,
    level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="Only those of this level: info, warning, error, critical, unknown."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=1000, help="How many texts of each kind.")] = 10,
    as_json: Json = False,
) -> None:
    """Show a job's notes by task, level and type, with counts, the most frequent first.

    Example: `bowerbird notes 7 --level error`
    """
    from shared.cli.collections import notes

    notes(job_id, level=level, examples=examples, as_json=as_json)


@command("restart", panel=COLLECTIONS, of=task_app)
def task_restart(
    job_id: JobId,
    task: Annotated[str, typer.Argument(help="The task's type: `coverage`, `flatten`, …", metavar="TASK")],
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="UNITS",
            help="Only these units of it: `failed`, a file (`2021.jsonl.gz` or `2021`), or a number. Can be repeated.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Do one task of a job again, or some of its units, and nothing else that is OK.

    Refused, with the command to use, if a later task has read what this one makes. Published files stay until all new
    ones are made. Safe while an old worker is still at it.

    Example: `bowerbird task restart 7 flatten --only failed`

    Example: `bowerbird task restart 7 coverage`
    """
    from shared.cli.collections import restart_one

    restart_one(job_id, task, only=only or [], as_json=as_json)


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


LicenceRef = Annotated[str, typer.Argument(help="The licence's name or number.", metavar="LICENCE")]
BundleRef = Annotated[str, typer.Argument(help="The bundle's name or number.", metavar="BUNDLE")]
IssueId = Annotated[int, typer.Argument(help="The issue's number.", metavar="ISSUE", min=1)]
Translation = Annotated[
    list[str] | None,
    typer.Option(
        "--translation", metavar="LANGUAGE.FIELD=TEXT", help="A text in another language; blank: take it away."
    ),
]
LicenceUrl = Annotated[str | None, typer.Option("--url", metavar="URL", help="Its canonical address.")]
LicenceText = Annotated[
    str | None, typer.Option("--description", metavar="TEXT", help="What it permits and asks, Markdown; or @PATH.")
]


@command("list", panel=COLLECTIONS, of=licence_app)
def licence_list(*, as_json: Json = False) -> None:
    """List the licences, and how many collections name each."""
    from shared.cli.catalogue import list_licences

    list_licences(as_json=as_json)


@command("add", panel=COLLECTIONS, of=licence_app)
def licence_add(
    name: Annotated[str, typer.Argument(help="Its official name.", metavar="NAME")],
    *,
    url: LicenceUrl = None,
    description: LicenceText = None,
    translation: Translation = None,
    as_json: Json = False,
) -> None:
    """Add a licence.

    Example: `bowerbird licence add "CC BY 4.0" --url https://creativecommons.org/licenses/by/4.0/`
    """
    from shared.cli.catalogue import save_licence

    values = {"name": name, "url": url, "description": description}
    save_licence(None, **values, translations=translation or [], as_json=as_json)


@command("edit", panel=COLLECTIONS, of=licence_app)
def licence_edit(
    licence: LicenceRef,
    *,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its official name.")] = None,
    url: LicenceUrl = None,
    description: LicenceText = None,
    translation: Translation = None,
    as_json: Json = False,
) -> None:
    """Change a licence, for all collections that name it."""
    from shared.cli.catalogue import save_licence

    values = {"name": name, "url": url, "description": description}
    if not translation and all(value is None for value in values.values()):
        raise WrongCallError("Say what to change: --name, --url, --description or --translation.")
    save_licence(licence, **values, translations=translation or [], as_json=as_json)


@command("remove", panel=COLLECTIONS, of=licence_app)
def licence_remove(licence: LicenceRef, *, as_json: Json = False) -> None:
    """Delete a licence. Refused while a collection names it."""
    from shared.cli.catalogue import remove_licence

    remove_licence(licence, as_json=as_json)


@command("list", panel=COLLECTIONS, of=bundle_app)
def bundle_list(*, as_json: Json = False) -> None:
    """List the settings bundles."""
    from shared.cli.catalogue import list_bundles

    list_bundles(as_json=as_json)


@command("add", panel=COLLECTIONS, of=bundle_app)
def bundle_add(
    name: Annotated[str, typer.Argument(help="What to call it.", metavar="NAME")],
    settings: Annotated[list[str] | None, typer.Argument(help="Its settings.", metavar="KEY=VALUE")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Add a settings bundle.

    Example: `bowerbird bundle add slow DOWNLOAD_DELAY=2 CONCURRENT_REQUESTS=1`
    """
    from shared.cli.catalogue import save_bundle

    save_bundle(None, name=name, settings=settings or [], unset=[], as_json=as_json)


@command("edit", panel=COLLECTIONS, of=bundle_app)
def bundle_edit(
    bundle: BundleRef,
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings to add or change.", metavar="KEY=VALUE")
    ] = None,
    *,
    unset: Annotated[list[str] | None, typer.Option("--unset", metavar="KEY", help="A setting to take away.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call it.")] = None,
    as_json: Json = False,
) -> None:
    """Change a settings bundle, for all collections that have it, from their next job on."""
    from shared.cli.catalogue import save_bundle

    if not (settings or unset or name):
        raise WrongCallError("Say what to change: KEY=VALUE, --unset KEY or --name.")
    save_bundle(bundle, name=name, settings=settings or [], unset=unset or [], as_json=as_json)


@command("remove", panel=COLLECTIONS, of=bundle_app)
def bundle_remove(bundle: BundleRef, *, as_json: Json = False) -> None:
    """Delete a settings bundle. Collections that have it go on without."""
    from shared.cli.catalogue import remove_bundle

    remove_bundle(bundle, as_json=as_json)


@command("list", panel=COLLECTIONS, of=issue_app)
def issue_list(
    name: Annotated[str | None, typer.Argument(help="Only those of this collection.", metavar="NAME")] = None,
    *,
    as_json: Json = False,
) -> None:
    """List issues of a collection's data, or of all."""
    from shared.cli.catalogue import list_issues

    list_issues(name, as_json=as_json)


@command("add", panel=COLLECTIONS, of=issue_app)
def issue_add(
    name: Name,
    text: Annotated[str, typer.Argument(help="One line of Markdown; or @PATH.", metavar="TEXT")],
    *,
    translation: Translation = None,
    as_json: Json = False,
) -> None:
    """Add an issue: what users of the data should know.

    Example: `bowerbird issue add moldova "Prices of 2024 are without taxes."`
    """
    from shared.cli.catalogue import add_issue

    add_issue(name, text, translations=translation or [], as_json=as_json)


@command("edit", panel=COLLECTIONS, of=issue_app)
def issue_edit(
    issue: IssueId,
    *,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="One line of Markdown; or @PATH.")] = None,
    translation: Translation = None,
    as_json: Json = False,
) -> None:
    """Change an issue."""
    from shared.cli.catalogue import edit_issue

    edit_issue(issue, text=text, translations=translation or [], as_json=as_json)


@command("remove", panel=COLLECTIONS, of=issue_app)
def issue_remove(issue: IssueId, *, as_json: Json = False) -> None:
    """Delete an issue."""
    from shared.cli.catalogue import remove_issue

    remove_issue(issue, as_json=as_json)


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


KeyName = Annotated[str, typer.Argument(help="The key's name: who or what uses it.", metavar="NAME")]
Expires = Annotated[str | None, typer.Option("--expires", metavar="TIME", help="How long it is valid: `90d`, `12h`.")]


@command("create", panel=OPERATION, of=key_app)
def key_create(
    name: KeyName,
    *,
    scope: Annotated[
        str, typer.Option(metavar="SCOPE", help="read: see everything; operate: steer; admin: also delete.")
    ] = "read",
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Make a key for the API and print it, this once: only its hash is kept.

    Example: `KEY=$(bowerbird key create night-watch --scope operate --expires 90d)`
    """
    from shared.cli.keys import create

    create(name, scope=scope, expires=expires, as_json=as_json)


@command("list", panel=OPERATION, of=key_app)
def key_list(
    *,
    every: Annotated[bool, typer.Option("--all", help="Also those that are revoked or replaced.")] = False,
    as_json: Json = False,
) -> None:
    """List the keys: what each allows, until when, and when it was last used.

    Example: `bowerbird key list --all`
    """
    from shared.cli.keys import list_all

    list_all(every=every, as_json=as_json)


@command("rotate", panel=OPERATION, of=key_app)
def key_rotate(
    name: KeyName,
    *,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old secret is valid still; `0s`: no longer.")
    ] = "1d",
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="How long the new one is valid. Default: as before.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a key a new secret and print it, this once. The old one is valid for a while, to change over.

    Example: `bowerbird key rotate night-watch --grace 2h`
    """
    from shared.cli.keys import rotate

    rotate(name, grace=grace, expires=expires, as_json=as_json)


@command("revoke", panel=OPERATION, of=key_app)
def key_revoke(name: KeyName, *, as_json: Json = False) -> None:
    """End a key now, with every secret that it had.

    Example: `bowerbird key revoke night-watch`
    """
    from shared.cli.keys import revoke

    revoke(name, as_json=as_json)


WebhookId = Annotated[int, typer.Argument(help="The webhook's number: `bowerbird webhook list`.", metavar="ID", min=1)]


@command("add", panel=OPERATION, of=webhook_app)
def webhook_add(
    url: Annotated[str, typer.Argument(help="Who is told: an http(s) URL.", metavar="URL")],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="EVENT", help="Of what: `job.failed`; may be repeated. Default: the ends of jobs."),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only of this collection's jobs. Default: of all, private ones too."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Have a URL told of jobs by signed messages, and print the secret that signs them, this once.

    Example: `bowerbird webhook add https://example.org/hook --event job.failed`
    """
    from shared.cli.webhooks import add

    add(url, events=event or [], collection=collection, as_json=as_json)


@command("list", panel=OPERATION, of=webhook_app)
def webhook_list(*, as_json: Json = False) -> None:
    """List the webhooks: what each is told, and whether it listens.

    Example: `bowerbird webhook list`
    """
    from shared.cli.webhooks import list_all

    list_all(as_json=as_json)


@command("remove", panel=OPERATION, of=webhook_app)
def webhook_remove(webhook: WebhookId, *, as_json: Json = False) -> None:
    """Remove a webhook. What it has not been told yet is given up.

    Example: `bowerbird webhook remove 1`
    """
    from shared.cli.webhooks import remove

    remove(webhook, as_json=as_json)


@command("enable", panel=OPERATION, of=webhook_app)
def webhook_enable(webhook: WebhookId, *, as_json: Json = False) -> None:
    """Turn a webhook on again.

    Example: `bowerbird webhook enable 1`
    """
    from shared.cli.webhooks import turn

    turn(webhook, on=True, as_json=as_json)


@command("disable", panel=OPERATION, of=webhook_app)
def webhook_disable(webhook: WebhookId, *, as_json: Json = False) -> None:
    """Turn a webhook off. What it has not been told yet is given up.

    Example: `bowerbird webhook disable 1`
    """
    from shared.cli.webhooks import turn

    turn(webhook, on=False, as_json=as_json)


@command("rotate", panel=OPERATION, of=webhook_app)
def webhook_rotate(
    webhook: WebhookId,
    *,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old secret signs, too; `0s`: no longer.")
    ] = "1d",
    as_json: Json = False,
) -> None:
    """Give a webhook a new secret and print it, this once. For a while both sign, to change over.

    Example: `bowerbird webhook rotate 1 --grace 2h`
    """
    from shared.cli.webhooks import rotate

    rotate(webhook, grace=grace, as_json=as_json)


@command("test", panel=OPERATION, of=webhook_app)
def webhook_test(webhook: WebhookId, *, as_json: Json = False) -> None:
    """Have the scheduler send a test message.

    Example: `bowerbird webhook test 1`
    """
    from shared.cli.webhooks import test

    test(webhook, as_json=as_json)


@command("retry", panel=OPERATION, of=webhook_app)
def webhook_retry(
    delivery: Annotated[int, typer.Argument(help="The delivery's number.", metavar="DELIVERY", min=1)],
    *,
    as_json: Json = False,
) -> None:
    """Have a delivery that was given up tried again, from its first attempt.

    Example: `bowerbird webhook retry 12`
    """
    from shared.cli.webhooks import retry

    retry(delivery, as_json=as_json)


@command("deliveries", panel=OPERATION, of=webhook_app)
def webhook_deliveries(
    webhook: Annotated[int | None, typer.Argument(help="Only of this webhook.", metavar="[ID]", min=1)] = None,
    *,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only those that are PENDING, DELIVERED or GIVEN_UP.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List what webhooks and callbacks were told, or are to be, newest first.

    Example: `bowerbird webhook deliveries --status GIVEN_UP`
    """
    from shared.cli.webhooks import list_deliveries

    list_deliveries(webhook, status=status, limit=limit, as_json=as_json)


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


@command("import-registry", panel=OPERATION)
def import_registry(
    source: Annotated[
        str,
        typer.Argument(
            help="Its postgresql:// URL; a dump by pg_dump, of any format; or JSON by Django's dumpdata, a file or a "
            "directory of them.",
            metavar="SOURCE",
        ),
    ],
    *,
    exporter_dir: Annotated[
        Path | None,
        typer.Option("--exporter-dir", metavar="DIR", help="Its EXPORTER_DIR: take the published files over, too."),
    ] = None,
    start: Annotated[bool, typer.Option("--start", help="Do not pause new collections.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take over an OCP Data Registry: publications, jobs, tasks, notes, licences, issues, settings; of 2024 or newer.

    Can be repeated: what changed there since is updated, what changed here since is left alone, nothing comes twice.
    New collections are paused, so that nothing is collected twice while both systems run.

    Example: `bowerbird import-registry registry.sql.gz --dry-run`

    Example: `bowerbird import-registry postgresql://reader@db/data_registry --exporter-dir /data/exporter`
    """
    from shared.cli.registry import import_registry

    import_registry(source, exporter_dir=exporter_dir, start=start, dry_run=dry_run, as_json=as_json)


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

"""``bowerbird demo``: the whole suite once, on the bundled sample, and a check of everything it made."""

import json
import time
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.cli.database import command_settings
from shared.cli.errors import CommandError
from shared.cli.line import Line, open_line
from shared.cli.output import duration, say, show
from shared.cli.tables import export_of, show_files, show_tasks, why_failed
from shared.db.models import Collection
from shared.publications import add_collection
from shared.sample import PACKAGES, facts
from shared.settings import Settings
from shared.supervisor import SERVICES, base_url, get
from shared.views import JobView

SAMPLE = "sample"
FORMATS = {"jsonl", "csv", "xlsx"}
API_SECONDS = 30.0


def demo() -> None:
    """Run the demonstration. Raise :class:`CommandError` naming what is missing unless everything was made."""
    configured = command_settings()
    settings = configured.model_copy(update={"api_port": 0})  # any free port: something else may have the usual one
    say(f"Publishing the bundled sample ({facts().releases} releases) on this machine; files go to {settings.exports}.")
    with open_line(settings, SERVICES) as line:
        job = line.run(sample_collection)
        if problem := why_failed(job):
            show_tasks(job)
            raise CommandError(problem)
        api_url = _ask_api(line, job)
    if problems := list(problems_of(settings, job)):
        raise CommandError(f"Not everything was made: {'; '.join(problems)}.")
    _show(settings, job, api_url, later_url=base_url(configured.api_host, configured.api_port) + configured.api_prefix)


def sample_collection(session: Session) -> Collection:
    """Return the collection of the bundled sample, added if it is not there yet."""
    collection = session.scalar(select(Collection).where(Collection.source_id == SAMPLE))
    if collection is None:
        return add_collection(session, SAMPLE, str(PACKAGES), title="Sample publication")
    collection.source = str(PACKAGES)  # another installation may have added it
    return collection


def _ask_api(line: Line, job: JobView) -> str:
    """Fetch the job from the API and compare; return the URL that answered."""
    deadline = time.monotonic() + API_SECONDS
    while True:
        line.tend()
        url = job_url(line.api_url or "", job.id)
        try:
            answer = json.load(get(url)) if line.api_url else {}
        except OSError as error:
            if time.monotonic() > deadline:
                raise CommandError(f"The API did not answer at {url}: {error}") from error
        else:
            if answer.get("id") == job.id and len(answer.get("files", ())) == len(job.files):
                return url
            if time.monotonic() > deadline:
                raise CommandError(f"The API answered at {url}, but not with job {job.id} and its files.")
        time.sleep(0.1)


def job_url(api_url: str, job_id: int) -> str:
    """Return where the API shows a job."""
    return f"{api_url}/jobs/{job_id}"


def problems_of(settings: Settings, job: JobView) -> Iterator[str]:
    """Yield what is missing or wrong of what the sample should have become."""
    if missing := FORMATS - {file.format for file in job.files}:
        yield f"no file of format {', '.join(sorted(missing))}"
    for file in job.files:
        path = export_of(settings, job).path(file.name)
        if not path.is_file():
            yield f"{path} does not exist"
        elif path.stat().st_size != file.size:
            yield f"{path} has {path.stat().st_size} bytes instead of {file.size}"
        if file.segment == "full" and file.records != facts().ocids:
            yield f"{file.name} holds {file.records} records instead of {facts().ocids}"


def _show(settings: Settings, job: JobView, api_url: str, *, later_url: str) -> None:
    show()
    show_tasks(job)
    show()
    show_files(job)
    show()
    show(f"Job {job.id} took {duration(job.duration_seconds)}. The files are in {export_of(settings, job).directory}")
    show(f"The API answered at {api_url} with the same job.")
    show()
    show("To keep everything running, API included:  make up   (or: bowerbird up)")
    show(f"Then look at this job:  curl {job_url(later_url, job.id)}")
    show("Your own data:  bowerbird publish PATH-OR-URL")

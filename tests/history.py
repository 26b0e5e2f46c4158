"""A database in which much has happened: collections with thousands of jobs, made by the server itself in a moment.

Jobs have the five usual tasks. One in sixteen failed, one in a hundred was cancelled, is kept whole, or was asked
for by a visitor; the newest job of the first collections is still open. How many are open, and how many have units
and files, does not depend on how many there are: so two databases differ in what is over, and in nothing else.
"""

from sqlalchemy import create_engine, text

from shared.db.engine import libpq_url

TASKS = ("collect", "process", "check", "export", "flatten")
OPEN = 10
"""Jobs that are running, and as many that are planned."""
DETAILED = 1000
"""Jobs with units, files and notes, evenly spread over all; all of them, if there are no more."""

_COLLECTIONS = """
INSERT INTO collection (source_id, title, country, region, description, source, public, retrieval_frequency, language,
    created, look_at)
SELECT 'publication_' || n, 'Publication ' || n, 'Ruritania ' || n % 80, (ARRAY['AS', 'EU', 'LAC', 'MEA'])[n % 4 + 1],
    repeat('What was bought, from whom, and for how much. ', 8), '/nowhere', n % 10 <> 0,
    (ARRAY['MONTHLY', 'WEEKLY', 'HALF_YEARLY'])[n % 3 + 1], (ARRAY['English', 'Spanish, English', 'French'])[n % 3 + 1],
    now() - interval '3 years', now() + interval '1 day' * (1 + random())
FROM generate_series(1, :collections) n
"""
# The oldest first, as they would have come: one collection after the other, not always in the same order.
_JOBS = """
INSERT INTO job (collection_id, process, status, created, start, "end", modified, archived, keep_all_data, coverage,
    context, tenders_count, awards_count, date_from, date_to, ocid_prefix, license)
SELECT CASE WHEN n % 100 <> 7 THEN (n + n / :collections) % :collections + 1 END,
    CASE WHEN n % 100 = 7 THEN 'echo' WHEN n % 50 = 3 THEN 'collect' ELSE 'publish' END,
    CASE WHEN n <= :jobs - 2 * :open THEN 'COMPLETED' WHEN n % 2 = 0 THEN 'RUNNING' ELSE 'PLANNED' END,
    at, CASE WHEN n <= :jobs - 2 * :open OR n % 2 = 0 THEN at + interval '1 second' END,
    CASE WHEN n <= :jobs - 2 * :open THEN at + interval '1 second' + took END, at,
    n <= :jobs - 2 * :open AND n % 100 <> 11, n % 100 = 11,
    jsonb_build_object('/ocid', n % 997, '/tender/id', n % 91), jsonb_build_object('records', n % 997), n % 97, n % 89,
    '2020-01-01', '2025-12-31', 'ocds-213czf', 'https://creativecommons.org/licenses/by/4.0/'
FROM (
    SELECT n, now() - interval '2 years' * (:jobs - n + 1) / :jobs AS at,
        interval '1 second' * exp(8 * random()) AS took
    FROM generate_series(1, :jobs) n
) AS each
"""
_TASKS = """
INSERT INTO task (job_id, type, "order", status, result, note, start, "end", modified)
SELECT job.id, (:tasks)[number], number,
    CASE WHEN job.status = 'COMPLETED' THEN 'COMPLETED' WHEN job.status = 'RUNNING' AND number = 1 THEN 'RUNNING'
        ELSE 'PLANNED' END,
    CASE WHEN job.status <> 'COMPLETED' THEN '' WHEN job.id % 16 = 9 AND number = 2 THEN 'FAILED'
        WHEN job.id % 100 = 21 AND number > 1 THEN 'CANCELLED' WHEN job.id % 16 = 9 AND number > 2 THEN 'SKIPPED'
        ELSE 'OK' END,
    CASE WHEN job.status = 'COMPLETED' AND job.id % 16 = 9 AND number = 2 THEN 'The source has no records.' ELSE '' END,
    job.start, job."end", job.modified
FROM job, generate_series(1, :numbers) number
"""
_UNITS = """
INSERT INTO unit (task_id, job_id, type, number, status, result, attempt, token, published_at, start, "end",
    progress, lease_until)
SELECT task.id, task.job_id, task.type, 1, task.status, task.result, 1, task.id, task.start, task.start, task."end",
    '{"done": 120, "total": 120, "of": "records"}',
    CASE WHEN task.status = 'RUNNING' THEN now() + interval '1 day' END
FROM task
WHERE task.job_id % greatest(:jobs / :detailed, 1) = 0 AND task.status = 'COMPLETED' OR task.status = 'RUNNING'
"""
_FILES = """
INSERT INTO file (job_id, unit_id, name, size, records, sha256)
SELECT unit.job_id, unit.id, name, 123456, 120, repeat('0123456789abcdef', 4)
FROM unit, unnest(ARRAY['full.jsonl.gz', 'full.csv.tar.gz', 'full.xlsx', '2024.jsonl.gz', '2024.csv.tar.gz']) name
WHERE unit.type = 'flatten'
"""
_NOTES = """
INSERT INTO task_note (task_id, unit_id, level, note, data)
SELECT unit.task_id, unit.id, 'INFO', '120 records.', '{"records": 120}' FROM unit WHERE unit.type = 'process'
"""
_ACTIVE = """
UPDATE collection SET active_job_id = newest.id, last_retrieved = newest."end"
FROM (
    SELECT DISTINCT ON (collection_id) collection_id, id, "end" FROM job
    WHERE process = 'publish' AND status = 'COMPLETED'
        AND NOT EXISTS (SELECT FROM task WHERE task.job_id = job.id AND task.result <> 'OK')
    ORDER BY collection_id, id DESC
) AS newest
WHERE newest.collection_id = collection.id
"""
_AUDIT = """
INSERT INTO audit (created, actor, action, job_id)
SELECT created, 'key:night-watch', 'run', id FROM job WHERE id % 2 = 0 ORDER BY id
"""
_EVENTS = """
INSERT INTO event (type, job_id, collection_id, status, created)
SELECT 'job', id, collection_id, status, created FROM job WHERE id > :jobs - :jobs / 5 ORDER BY id
"""
_LETTERS = """
INSERT INTO dead_letter (kind, status, queue, key, body, body_bytes, reason, attempts, job_id, last_at, resolved_at)
SELECT 'UNIT', CASE WHEN id > :jobs - 500 THEN 'OPEN' ELSE 'REPLAYED' END, 'collector', 'unit ' || id, '{}', 2,
    'The source has no records.', 5, id, "end", CASE WHEN id <= :jobs - 500 THEN "end" END
FROM job WHERE id % 16 = 9 AND "end" IS NOT NULL ORDER BY id
"""
_DELIVERIES = """
INSERT INTO delivery (message_id, type, url, job_id, status, ended)
SELECT 'msg_' || id, 'job.succeeded', 'https://example.org/', id, 'DELIVERED', "end" FROM job
WHERE id > :jobs - :jobs / 5 AND "end" IS NOT NULL ORDER BY id
"""


def fill(database_url: str, *, collections: int, jobs: int) -> None:
    """Fill a database that is migrated and empty. It takes a superuser seconds for each 100,000 jobs, others longer."""
    engine = create_engine(libpq_url(database_url).replace("postgresql://", "postgresql+psycopg2://", 1))
    values = {
        "collections": collections,
        "jobs": jobs,
        "open": OPEN,
        "detailed": DETAILED,
        "tasks": list(TASKS),
        "numbers": len(TASKS),
    }
    with engine.begin() as connection:
        if connection.scalar(text("SELECT current_setting('is_superuser')")) == "on":
            # Neither foreign keys nor our own triggers: all that they would look at is right.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("SELECT setseed(0.5)"))
        for statement in (_COLLECTIONS, _JOBS, _TASKS, _UNITS, _FILES, _NOTES):
            connection.execute(text(statement), values)
        connection.execute(text("ANALYZE"))
        for statement in (_ACTIVE, _AUDIT, _EVENTS, _LETTERS, _DELIVERIES):
            connection.execute(text(statement), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))
    engine.dispose()

"""The peer of bench/jobs.py: a Celery chain of five tasks on RabbitMQ, each of which commits to PostgreSQL.

As safe as Celery can be made: quorum queues, confirmed publications, late acknowledgement, one message at a time. Of a
task of ours three transactions have to be on the disk before it goes on (it is claimed; its outcome; the next one is
planned), so each of these commits three times, in the least it can: one statement on a connection that stays open.

Runs in an environment of its own (celery-requirements.txt). ``celery -A bench.celery_chain worker`` is the worker;
``python -m bench.celery_chain`` reads how many chains to run, one after another, and writes their seconds as JSON.
"""

import json
import os
import select
import sys
import time

import psycopg2
from celery import Celery, chain

TASKS = 5
COMMITS = 3
TABLE = "CREATE TABLE celery_job (id bigint PRIMARY KEY, step int NOT NULL)"
CHANNEL = "celery_job"
PREFIX = os.environ["BENCH_PREFIX"]

app = Celery("bench", broker=os.environ["BENCH_BROKER_URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    control_exchange=f"{PREFIX}.control",
    event_exchange=f"{PREFIX}.event",
    task_acks_late=True,
    task_default_queue=PREFIX,
    task_default_queue_type="quorum",
    task_ignore_result=True,
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=1,
)

_connections = []


def connection():
    """Return the process's connection."""
    if not _connections:
        _connections.append(psycopg2.connect(os.environ["BENCH_DATABASE_URL"]))
        _connections[0].autocommit = True
    return _connections[0]


@app.task(name="bench.celery_chain.step")  # the same, whichever process it is defined in
def step(job_id, number):
    """Do nothing, and commit as often as a task of ours. The last one says that the job is over."""
    with connection().cursor() as cursor:
        for commit in range(COMMITS):
            over = number == TASKS and commit == COMMITS - 1
            cursor.execute(
                "UPDATE celery_job SET step = step + 1 WHERE id = %s"
                if not over
                else "WITH done AS (UPDATE celery_job SET step = step + 1 WHERE id = %s RETURNING id) "
                f"SELECT pg_notify('{CHANNEL}', id::text) FROM done",
                (job_id,),
            )


def run(job_id):
    """Run a chain; return the seconds from sending it to hearing that its last commit is done."""
    with connection().cursor() as cursor:
        cursor.execute("INSERT INTO celery_job VALUES (%s, 0)", (job_id,))
    start = time.perf_counter()
    chain(step.si(job_id, number) for number in range(1, TASKS + 1)).apply_async()
    while not any(notify.payload == str(job_id) for notify in connection().notifies):
        if not select.select([connection()], [], [], 60)[0]:
            raise TimeoutError(f"Chain {job_id} is not done after a minute.")
        connection().poll()
    seconds = time.perf_counter() - start
    connection().notifies.clear()
    return seconds


def main():
    """Run chains for whoever asks."""
    with connection().cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS celery_job; {TABLE}; LISTEN {CHANNEL}")
    job_id = 0
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            job_id += 1
            seconds.append(run(job_id))
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()

"""What becomes of a job, task by task: every state a pass can find, against tables that a person can read.

The tables are the rules; each test first proves that its table has a row for every combination there is.
"""

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest

from services.scheduler.decisions import Answer, Go, LatestJob, Step, is_out_of_date, is_published, move_of, step_of
from shared.db.models import JobStatus, Result, RetrievalFrequency, TaskStatus

STORED = [status for status in TaskStatus if status != TaskStatus.WAITING]

# job        task       paused: step
STEPS = """
PLANNED      PLANNED    no      START
PLANNED      PLANNED    yes     LEAVE
PLANNED      RUNNING    no      CHECK
PLANNED      RUNNING    yes     CHECK
PLANNED      COMPLETED  no      OVER
PLANNED      COMPLETED  yes     OVER
RUNNING      PLANNED    no      START
RUNNING      PLANNED    yes     LEAVE
RUNNING      RUNNING    no      CHECK
RUNNING      RUNNING    yes     CHECK
RUNNING      COMPLETED  no      OVER
RUNNING      COMPLETED  yes     OVER
COMPLETED    PLANNED    no      LEAVE
COMPLETED    PLANNED    yes     LEAVE
COMPLETED    RUNNING    no      LEAVE
COMPLETED    RUNNING    yes     LEAVE
COMPLETED    COMPLETED  no      LEAVE
COMPLETED    COMPLETED  yes     LEAVE
"""

# step   answer      task       result  note   job    and then
MOVES = """
START    OPEN        RUNNING    -       clear  begins WAIT
START    DONE        COMPLETED  OK      clear  begins ON
START    FAILED      COMPLETED  FAILED  keep   begins END
START    TEMPORARY   PLANNED    FAILED  keep   same   WAIT
START    PERMANENT   COMPLETED  FAILED  keep   begins END
CHECK    OPEN        RUNNING    -       clear  same   WAIT
CHECK    DONE        COMPLETED  OK      clear  same   ON
CHECK    FAILED      COMPLETED  FAILED  keep   same   END
CHECK    TEMPORARY   RUNNING    FAILED  keep   same   WAIT
CHECK    PERMANENT   COMPLETED  FAILED  keep   same   END
"""


def rows(table):
    return [tuple(line.split()) for line in table.strip().splitlines()]


def test_every_state_of_job_task_and_pause_has_its_step():
    found = {(job, task, paused) for job, task, paused, _ in rows(STEPS)}
    assert found == set(itertools.product(JobStatus, STORED, ("no", "yes")))
    assert len(rows(STEPS)) == len(found)
    for job, task, paused, step in rows(STEPS):
        assert step_of(job=job, task=task, paused=paused == "yes") == step, (job, task, paused)


def test_every_answer_of_a_manager_has_its_move():
    found = {(step, answer) for step, answer, *_ in rows(MOVES)}
    assert found == set(itertools.product((Step.START, Step.CHECK), Answer))
    assert len(rows(MOVES)) == len(found)
    for step, answer, task, result, note, job, go in rows(MOVES):
        move = move_of(Step(step), Answer(answer))
        actual = (
            move.task,
            move.result or "-",
            "keep" if move.note else "clear",
            "begins" if move.starts_job else "same",
            move.go,
        )
        assert actual == (task, result, note, job, go), (step, answer)


@pytest.mark.parametrize("step", [Step.OVER, Step.LEAVE])
def test_nobody_is_asked_about_what_is_passed_or_left(step):
    with pytest.raises(ValueError, match="no manager is asked"):
        move_of(step, Answer.OPEN)


def test_a_task_that_is_over_has_a_result_and_one_that_is_not_goes_on_later():
    for step, answer in itertools.product((Step.START, Step.CHECK), Answer):
        move = move_of(step, answer)
        assert (move.task == TaskStatus.COMPLETED) == (move.go in (Go.ON, Go.END))
        assert (move.go == Go.ON) == (move.result == Result.OK)
        assert move.note == (move.result == Result.FAILED), "whoever fails says why, whoever does not is silent"


def test_only_a_job_all_of_whose_tasks_are_ok_is_published():
    for number in range(4):
        for results in itertools.product(Result, repeat=number):
            assert is_published(results) == (number > 0 and set(results) == {Result.OK}), results


def run(answers, *, paused_at=None):
    """Follow a job by the two decisions alone; return the states of its tasks, and what it became, after each pass.

    ``answers``: for each task, what its manager says each time it is asked, in order; the last goes on for ever.
    ``paused_at``: the pass from which on the collection is paused.
    """
    asked = [list(each) for each in answers]
    job, tasks, history = "PLANNED", [("PLANNED", "")] * len(answers), []
    for turn in range(12):
        over = True
        for number, (status, _) in enumerate(tasks):
            step = step_of(job=job, task=status, paused=paused_at is not None and turn >= paused_at)
            if step == Step.OVER:
                continue
            if step == Step.LEAVE:
                over = False
                break
            answer = asked[number].pop(0) if len(asked[number]) > 1 else asked[number][0]
            move = move_of(step, Answer(answer))
            job = "RUNNING" if move.starts_job else job
            tasks[number] = (str(move.task), str(move.result))
            if move.go == Go.END:
                tasks[number + 1 :] = [("COMPLETED", "SKIPPED")] * (len(tasks) - number - 1)
            if move.go != Go.ON:
                over = move.go == Go.END
                break
        if over:
            job = "COMPLETED"
        history.append((job, [result or status for status, result in tasks]))
        if over:
            break
    return history, is_published([result for _, result in tasks])


def test_a_pass_completes_a_task_and_starts_the_next():
    history, published = run([["OPEN", "DONE"], ["OPEN", "DONE"], ["DONE"]])
    assert history == [
        ("RUNNING", ["RUNNING", "PLANNED", "PLANNED"]),
        ("RUNNING", ["OK", "RUNNING", "PLANNED"]),
        ("COMPLETED", ["OK", "OK", "OK"]),
    ]
    assert published


def test_tasks_that_have_nothing_to_do_cost_one_pass_together():
    assert run([["DONE"]] * 5)[0] == [("COMPLETED", ["OK"] * 5)]


def test_a_service_that_is_away_is_asked_again_without_a_limit_and_its_job_is_not_begun():
    history, _ = run([["TEMPORARY"] * 9 + ["OPEN", "DONE"], ["DONE"]])
    assert history[:9] == [("PLANNED", ["FAILED", "PLANNED"])] * 9
    assert history[9:] == [("RUNNING", ["RUNNING", "PLANNED"]), ("COMPLETED", ["OK", "OK"])]


@pytest.mark.parametrize("answer", ["FAILED", "PERMANENT"])
def test_a_failure_ends_the_job_keeps_what_was_done_and_skips_the_rest(answer):
    history, published = run([["OPEN", "DONE"], ["OPEN", answer], ["DONE"]])
    assert history[-1] == ("COMPLETED", ["OK", "FAILED", "SKIPPED"])
    assert not published


def test_what_runs_when_its_collection_is_paused_ends_and_nothing_else_starts():
    history, _ = run([["OPEN", "OPEN", "DONE"], ["DONE"]], paused_at=1)
    assert history[-1] == ("RUNNING", ["OK", "PLANNED"])


def test_every_short_life_ends_or_waits_and_is_published_only_if_all_is_well():
    for length in (1, 2):
        for answers in itertools.product(itertools.product(Answer, repeat=2), repeat=length):
            history, published = run(answers)
            job, results = history[-1]
            assert published == (results == ["OK"] * length)
            last_words = next((each[-1] for each, result in zip(answers, results, strict=True) if result != "OK"), "")
            assert job == "COMPLETED" or last_words in ("OPEN", "TEMPORARY"), (answers, history)


# When a collection is out of date

DAYS = {"WEEKLY": 7, "BIWEEKLY": 14, "MONTHLY": 30, "HALF_YEARLY": 180, "ANNUALLY": 365}
TODAY = date(2026, 3, 15)


def rules(frozen, frequency, latest, incomplete, today):
    """The Data Registry's rules, transcribed one by one from what is known of it, days being UTC days."""
    if frozen:
        return False
    if frequency in ("", "NEVER"):
        return False
    if latest is None:
        return True
    if latest.start is None:
        return False
    days = DAYS[frequency]
    if latest.failed:
        days = 7
    if not today >= (latest.start + timedelta(days=days)).date():
        return False
    return not incomplete


def test_out_of_date_is_what_the_rules_say_for_every_frequency_state_and_day_around_every_limit():
    ages = sorted({1000, *(limit + near for limit in (0, *DAYS.values()) for near in (-1, 0, 1))} - {-1})
    latest = [None] + [
        LatestJob(start, failed)
        for failed in (False, True)
        for start in [None]
        + [
            datetime.combine(TODAY - timedelta(days=age), moment, UTC)
            for age in ages
            for moment in (datetime.min.time(), datetime.max.time())
        ]
    ]
    cases = list(itertools.product((False, True), RetrievalFrequency, latest, (False, True)))
    assert len(cases) == 2 * 7 * (1 + 2 * (1 + 2 * len(ages))) * 2
    for frozen, frequency, job, incomplete in cases:
        verdict = is_out_of_date(
            frozen=frozen, retrieval_frequency=frequency, latest=job, has_incomplete_job=incomplete, today=TODAY
        )
        assert verdict.due == rules(frozen, frequency, job, incomplete, TODAY), (frozen, frequency, job, incomplete)
        assert verdict.reason

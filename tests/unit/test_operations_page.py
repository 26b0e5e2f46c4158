"""docs/operations.md is what an operator searches with a sentence from a log or a note: so it must have that sentence.

Two directions. What the page quotes must exist: every symptom in the words of the code, every command with its options,
every setting and constant (that their values are those in force, tests/integration/test_bounds.py checks). And what the
code can say must be found: every log line of level WARNING or ERROR is quoted on the page; every error either says
itself what to do, or is quoted on the page, or is in the short list below, with the reason.

One class of errors is judged otherwise, :data:`ANSWERS`: they refuse a value that a person has just typed or sent, and
are shown to that person alone, at once. Nobody searches a page for those: what helps is the value itself in the text,
beside the rule that it breaks. So they must name a value, and need no row. How work fails, what services log and what a
task's note says is none of that, whatever began it.

Texts are compared as *templates*: what is filled in at run time is ``…`` on both sides.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import typer

from shared.cli.app import app
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BOUNDS = (ROOT / "tests" / "integration" / "test_bounds.py").read_text(encoding="utf-8")
SYMPTOM_COLUMNS = {
    "symptom",
    "the task's note says",
    "`dead replay` says",
    "`task restart` says",
    "the letter of a message says",
    "log line",
}

ANSWERS = {"InvalidCollectionError", "InvalidSchemaError", "ScheduleError", "UnknownConditionError", "WrongCallError"}
"""Errors that refuse a value of a call or a request."""

FOREIGN = {"PRECONDITION_FAILED": "RabbitMQ's own word", "Timeout during AMQP handshake": "pika's"}
"""Symptoms that are no words of ours."""

TYPED = "it answers what was typed a moment ago, and names it"
PASSED_ON = "what is filled in says what to do"
UNLISTED = {
    "--down needs a --revision to go back to (base: no tables).": TYPED,
    "Job … cannot restart from …, because … is not OK.": TYPED,
    "Job … is completed; there is nothing to cancel.": TYPED,
    "Not confirmed: nothing is changed. --yes skips the question, --dry-run only looks.": TYPED,
    "There is no job ….": TYPED,
    "Not everything was made: ….": "of the demo, which names what is missing",
    "The API answered at …, but not with job … and its files.": "of the demo: a defect, or another API on that port",
    "The API did not answer at …: …": "of the demo, with the system's reason",
    "The claim … on unit … is lost.": "nobody is shown it: the worker logs that the outcome is dropped",
    "… refused: …": PASSED_ON,
    "…, …: ….": PASSED_ON,
}
"""Errors without a remedy in their text and without a row on the page → why that is right."""

# How a remedy begins: an order, or the list of what is possible.
REMEDY = re.compile(
    r"(?:^|[.:;?!,(] |\n|\bor |\band |`)(?:ask|bowerbird|cancel|check|choose|collect|compile|convert|correct|dump|"
    r"execute|fetch|follow|give|have|install|it has(?=:)|it takes|known|leave|let|make|mend|move|put|raise|read|"
    r"restart|resume|run|say|see|set|start|stop|take|the services declare|there are|try|unpack|use|write)\b",
    re.IGNORECASE,
)


# What the code says


@cache
def trees() -> list[ast.Module]:
    paths = [path for folder in ("services", "shared") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [ast.parse(path.read_text(encoding="utf-8")) for path in paths]


def template(node: ast.expr) -> str:
    """Return a text with ``…`` for what is filled in; only that for an expression that is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(template(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left) + template(right)
    return "…"


@cache
def texts() -> list[str]:
    """Return every text in the code that is no docstring."""
    found = []
    for tree in trees():
        documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            template(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) and id(node) not in documents
        ]
    return [text for text in found if text.strip("… ")]


def log_lines() -> set[str]:
    """Return every sentence that is logged at WARNING or above."""
    return {
        template(call.args[0])
        for call in calls()
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in {"warning", "error", "exception", "critical"}
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
    }


def errors() -> set[str]:
    """Return every text of an error of ours, and what the collector's and worker's own ways to fail are given.

    Of those that refuse a value (:data:`ANSWERS`) only the ones that name none.
    """
    names = error_names()
    found = set()
    for call in calls():
        name = ast.unparse(call.func).rpartition(".")[2]
        ending = name == "Outcome" and template(call.args[0]) in {"temporary", "permanent"}
        if ending or name == "KeyRefusedError":  # whose first words are for programs
            found.add(template(call.args[1]))
        elif name in ANSWERS and "…" in template(call.args[0]):
            continue
        elif call.args and name in names | {"fail", "_fail"}:
            found.add(template(call.args[0]))
    return {text for text in found if text.strip("… .")}  # else it passes on a text that was made elsewhere


def error_names() -> set[str]:
    """Return the names of BowerbirdError and all that derive from it."""
    bases = {
        node.name: {ast.unparse(base) for base in node.bases}
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    names = {"BowerbirdError"}
    while more := {name for name, of in bases.items() if of & names} - names:
        names |= more
    return names


def calls() -> Iterator[ast.Call]:
    return (node for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Call))


# What the page says


def code_spans(text: str) -> list[str]:
    return [match[2].strip() for match in re.finditer(r"(`+)(.+?)\1(?!`)", text, re.DOTALL)]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split(" | ")]


def symptoms() -> list[str]:
    """Return what is quoted in the first column of the tables of symptoms."""
    found, heading = [], ""
    lines = PAGE.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following.startswith("| ---"):
            heading = cells(line)[0]
        elif not line.startswith("|"):
            heading = ""
        elif heading in SYMPTOM_COLUMNS and not line.startswith("| ---"):
            found += [span for span in code_spans(cells(line)[0]) if not span.startswith("bowerbird")]
    return found


def paragraphs() -> list[str]:
    """Return the page in pieces that belong together: rows, list items and paragraphs."""
    return re.split(r"\n\n|\n(?=\||- )", PAGE)


def pattern(symptom: str) -> re.Pattern[str]:
    """Return what finds a symptom among the templates; numbers are filled in, like ``…``."""
    escaped = re.escape(symptom).replace("…", ".*").replace(r"\*", ".*")
    return re.compile(re.sub(r"\d+", lambda number: f"(?:{number[0]}|…)", escaped), re.DOTALL)


# The page is true


def test_the_page_has_symptoms_and_the_code_texts():
    assert len(symptoms()) > 50
    assert len(log_lines()) > 30
    assert len(errors()) > 100
    assert error_names() >= ANSWERS


def test_every_symptom_is_in_the_words_of_the_code():
    invented = [
        symptom for symptom in symptoms() if symptom not in FOREIGN and not any(map(pattern(symptom).search, texts()))
    ]
    assert invented == []


def test_settings_and_constants_exist():
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    constants = {node.id for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Name)}
    limits = PAGE.partition("\n## Limits\n")[2].partition("\n## ")[0]
    for span in code_spans(PAGE):
        for name in re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", span):
            assert name in settings | constants | FOREIGN.keys(), name
    for row in limits.splitlines():
        if row.startswith("| ") and len(cells(row)) > 2:
            for name in code_spans(cells(row)[2]):
                assert name in BOUNDS or name.lower() in BOUNDS, f"the value of {name} is not compared"


def test_commands_exist_with_the_options_that_are_named():
    for text in paragraphs():
        spans = code_spans(text)
        commands = [command_of(span) for span in spans if span.startswith("bowerbird ")]
        known = {option for command in commands for option in options_of(command)}
        for span in spans:
            if span.startswith(("bowerbird ", "--")):
                own = options_of(command_of(span)) if span.startswith("bowerbird ") else known
                for option in re.findall(r"--[a-z-]+", span):
                    assert option in own, f"{option} in: {text}"


def command_of(span: str) -> click.Command:
    """Return the command that a line calls; fail if there is none."""
    command: click.Command = typer.main.get_command(app)
    words = [word for word in span.split()[1:] if not word.startswith("-")]
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        word = words.pop(0) if words else ""
        if word not in command.commands:
            assert command.name in {"job", "dead"}, f"no such command: {span}"  # short for show
            return command.commands["show"]
        command = command.commands[word]
    return command


def options_of(command: click.Command) -> set[str]:
    """Return its options; ``--help``, which every command has, is made when it is asked for."""
    own = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    return own | {"--help"}


# The page is complete


def test_every_warning_and_error_in_a_log_is_on_the_page():
    missing = log_lines() - set(symptoms())
    assert missing == set(), "docs/operations.md needs rows: what it means, and what to do"


def test_every_error_says_what_to_do_or_is_on_the_page():
    quoted = [pattern(symptom) for symptom in symptoms() if len(symptom) > 10]
    missing = [
        text
        for text in errors()
        if not REMEDY.search(text) and text not in UNLISTED and not any(one.search(text) for one in quoted)
    ]
    assert missing == [], "say in the text what to do, or give it a row in docs/operations.md"


def test_no_exception_is_left_over():
    assert UNLISTED.keys() <= errors()
    assert {symptom for symptom in FOREIGN if symptom not in symptoms()} == set()

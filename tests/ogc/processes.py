"""The list of processes, their descriptions, and the dialect of these."""

from typing import Any
from uuid import uuid4

from tests.ogc import schemas, values
from tests.ogc.checks import NotOfferedError, requirement
from tests.ogc.server import EXCEPTIONS, Server, hrefs, require_exception

MANY = 100_000


@requirement("core/process-list", "core/process-list-success")
def the_processes_are_listed(server: Server) -> None:
    document = server.read("/processes", schemas.PROCESS_LIST)
    ids = [each["id"] for each in document["processes"]]
    assert len(ids) == len(set(ids)), "a process is on the list twice"
    assert server.process in server.process_ids(), f"{server.process} is not on the list"


@requirement("core/pl-links")
def the_list_of_processes_links_to_itself(server: Server) -> None:
    assert hrefs(server.read("/processes"), "self"), "there is no link self"


@requirement("core/pl-limit-response")
def a_page_has_no_more_processes_than_asked_for(server: Server) -> None:
    everything = server.process_ids()
    pages = server.pages("/processes?limit=1")
    assert all(len(page["processes"]) <= 1 for page in pages), "limit=1 brings more than one"
    if len(everything) > 1:
        assert [each["id"] for page in pages for each in page["processes"]] == everything, "pages differ from the list"
    server.read(f"/processes?limit={MANY}", schemas.PROCESS_LIST)


@requirement("core/process", "core/process-success", "ogc-process-description/json-encoding")
def every_listed_process_is_described(server: Server) -> None:
    for process_id in server.process_ids():
        described = server.read(f"/processes/{process_id}", schemas.PROCESS)
        assert described["id"] == process_id, f"/processes/{process_id} describes {described['id']}"


@requirement("core/process-success")
def a_description_agrees_with_the_list(server: Server) -> None:
    for summary in server.read("/processes")["processes"]:
        described = server.read(f"/processes/{summary['id']}")
        differing = [name for name, value in summary.items() if name != "links" and described.get(name) != value]
        assert not differing, f"{summary['id']} is described with another {', '.join(differing)} than it is listed with"


@requirement("core/process-exception/no-such-process")
def a_process_that_is_not_there_is_404(server: Server) -> None:
    for unknown in ("nothing", str(uuid4()), "a%20b", "%00", "0"):
        require_exception(server.get(f"/processes/{unknown}"), 404, kind="no-such-process")
    response = server.ask("POST", "/processes/nothing/execution", json={"inputs": {}})
    require_exception(response, 404, kind="no-such-process")


@requirement(
    "ogc-process-description/inputs-def", "ogc-process-description/input-def", "ogc-process-description/outputs-def"
)
def inputs_and_outputs_are_objects_with_a_schema_each(server: Server) -> None:
    for process_id in server.process_ids():
        described = server.read(f"/processes/{process_id}")
        for part in ("inputs", "outputs"):
            assert isinstance(described.get(part), dict), f"{process_id} has no {part}"
            without = [name for name, each in described[part].items() if "schema" not in each]
            assert not without, f"{process_id}: without a schema: {', '.join(without)}"
        for name, each in described["inputs"].items():
            least, most = each.get("minOccurs", 1), each.get("maxOccurs", 1)
            assert most == "unbounded" or most >= max(least, 1), f"{process_id}: {name} takes {least} to {most} values"


@requirement("ogc-process-description/input-mixed-type", "ogc-process-description/output-mixed-type")
def a_value_of_several_types_is_one_of_them(server: Server) -> None:
    mixed = [each for each in _value_schemas(server.description) if values.is_mixed(each)]
    if not mixed:
        raise NotOfferedError("the process has no value of several types")
    for schema in mixed:
        assert len(schema["oneOf"]) > 1, "oneOf has one branch"


@requirement("ogc-process-description/input-binary")
def bytes_are_texts_with_an_encoding(server: Server) -> None:
    binary = [each for each in _value_schemas(server.description) if values.is_binary(each)]
    if not binary:
        raise NotOfferedError("the process has no input of bytes")
    assert all(each.get("type") == "string" for each in binary), "bytes are not described as a text"


@requirement("core/test-process")
def there_is_a_process_that_can_be_tried(server: Server) -> None:
    inputs, outputs = server.description["inputs"], server.description["outputs"]
    first = next(iter(inputs))
    assert inputs[first]["schema"].get("type") == "string", f"the first input, {first}, is no text"
    assert not inputs[first]["schema"].keys() & {"enum", "format"}, f"the first input, {first}, is not any text"
    assert first in outputs, f"there is no output {first}, of the same id as the first input"
    needed = [name for name, each in inputs.items() if each.get("minOccurs", 1)]
    assert needed == [first], f"required are {needed}, and should be the first alone"
    assert len(outputs) > 1, "there is one output only"
    assert {"sync-execute", "async-execute", "dismiss"} <= set(server.description["jobControlOptions"])
    assert {"value", "reference"} <= set(server.description["outputTransmission"])


def _value_schemas(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["schema"] for part in ("inputs", "outputs") for each in described[part].values()]


@requirement("core/process-exception/no-such-process")
def the_type_of_an_exception_is_the_standards(server: Server) -> None:
    document = server.get("/processes/nothing").json()
    assert document["type"].startswith(EXCEPTIONS), f"the type is {document['type']}"

# SPDX-License-Identifier: Apache-2.0
"""Import and export of identities through azure-iot-hub."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import Configuration, ConfigurationContent, JobProperties, Twin
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]


def jobs_of(hub: Any) -> Any:
    return IoTHubJobManager.from_connection_string(hub.connection_string)


def ended(manager: Any, job_id: str) -> Callable[[], Any]:
    def look() -> Any:
        job = manager.get_import_export_job(job_id)
        return job if job.status != "running" else None

    return look


class Storage(http.server.BaseHTTPRequestHandler):
    """A blob container as far as a hub sees it."""

    blobs: dict[str, bytes] = {}

    def do_PUT(self) -> None:
        assert self.headers["x-ms-blob-type"] == "BlockBlob"
        self.blobs[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Quietly."""


@pytest.fixture
def storage() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/box?sig=secret"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_hub_moves_into_another_one(own_hub: Any, tmp_path: Path, eventually: Eventually) -> None:
    registry, manager = own_hub.registry(), jobs_of(own_hub)
    first = registry.create_device_with_sas("first", None, None, "disabled", status_reason="in repair")
    registry.update_twin("first", Twin(tags={"ring": "demo"}))
    registry.create_module_with_sas("first", "door", "me", None, None)
    made = manager.create_import_export_job(JobProperties(type="export", output_blob_container_uri=tmp_path.as_uri()))
    done = eventually(ended(manager, made.job_id))
    assert (done.status, done.progress, done.type) == ("completed", 100, "export")
    lines = [json.loads(line) for line in (tmp_path / "devices.txt").read_text().splitlines()]
    assert [(line["id"], line.get("moduleId")) for line in lines] == [("first", None), ("first", "door")]

    registry.delete_device("first")
    bad = {"id": "bad name", "importMode": "create"}
    (tmp_path / "in.txt").write_text("".join(json.dumps(line) + "\n" for line in (*lines, bad)))
    made = manager.create_import_export_job(
        JobProperties(
            type="import",
            input_blob_container_uri=tmp_path.as_uri(),
            input_blob_name="in.txt",
            output_blob_container_uri=tmp_path.as_uri(),
        )
    )
    assert eventually(ended(manager, made.job_id)).status == "completed"
    again = registry.get_device("first")
    assert (again.status, again.status_reason) == ("disabled", "in repair")
    assert again.authentication.symmetric_key.primary_key == first.authentication.symmetric_key.primary_key
    assert registry.get_twin("first").tags == {"ring": "demo"}
    assert registry.get_module("first", "door").managed_by == "me"
    assert json.loads((tmp_path / "importErrors.log").read_text())["deviceId"] == "bad name"
    assert len(manager.get_import_export_jobs()) == 2


def test_an_export_without_keys_goes_to_a_blob(own_hub: Any, storage: str, eventually: Eventually) -> None:
    own_hub.registry().create_device_with_sas("kept", None, None, "enabled")
    manager = jobs_of(own_hub)
    made = manager.create_import_export_job(
        JobProperties(type="export", output_blob_container_uri=storage, exclude_keys_in_export=True)
    )
    assert "secret" not in made.output_blob_container_uri
    assert eventually(ended(manager, made.job_id)).status == "completed"
    line = json.loads(Storage.blobs["/box/devices.txt?sig=secret"])
    assert line["authentication"]["symmetricKey"] == {"primaryKey": None, "secondaryKey": None}


def test_transfers_that_cannot_be_done_fail_and_say_why(own_hub: Any, tmp_path: Path, eventually: Eventually) -> None:
    manager = jobs_of(own_hub)
    nowhere = (tmp_path / "nowhere").as_uri()
    made = manager.create_import_export_job(JobProperties(type="export", output_blob_container_uri=nowhere))
    failed = eventually(ended(manager, made.job_id))
    assert (failed.status, "nowhere" in failed.failure_reason) == ("failed", True)
    manager.cancel_import_export_job(made.job_id)
    assert manager.get_import_export_job(made.job_id).status == "failed"
    for act, code in (
        (lambda: manager.create_import_export_job(JobProperties(type="import")), 400),
        (lambda: manager.get_import_export_job("nothing"), 404),
        (lambda: manager.cancel_import_export_job("nothing"), 404),
    ):
        with pytest.raises(HttpOperationError) as error:
            act()
        assert error.value.response.status_code == code


def test_configurations_move_with_their_hub(own_hub: Any, tmp_path: Path, eventually: Eventually) -> None:
    configurations, manager = own_hub.configurations(), jobs_of(own_hub)
    made = {}
    for name in ("older", "newer"):
        content = ConfigurationContent(device_content={"properties.desired.by": name})
        configuration = Configuration(id=name, content=content, target_condition="*", priority=1)
        made[name] = configurations.create_configuration(configuration)
    both = {"include_configurations": True, "configurations_blob_name": "plans.txt"}
    job = JobProperties(type="export", output_blob_container_uri=tmp_path.as_uri(), **both)
    told = manager.create_import_export_job(job)
    assert (told.include_configurations, told.configurations_blob_name) == (True, "plans.txt")
    assert eventually(ended(manager, told.job_id)).status == "completed"
    lines = [json.loads(line) for line in (tmp_path / "plans.txt").read_text().splitlines()]
    assert [(line["id"], line["etag"]) for line in lines] == [(name, made[name].etag) for name in ("older", "newer")]

    configurations.delete_configuration("newer")
    lines[0]["etag"] = "bm90IGl0"
    lines[1]["priority"] = 5
    odd = {"id": "odd", "importMode": "delete"}
    (tmp_path / "plans.txt").write_text("".join(json.dumps(line) + "\n" for line in (*lines, odd)))
    folder = tmp_path.as_uri()
    job = JobProperties(type="import", input_blob_container_uri=folder, output_blob_container_uri=folder, **both)
    assert eventually(ended(manager, manager.create_import_export_job(job).job_id)).status == "completed"
    assert configurations.get_configuration("newer").priority == 5
    assert configurations.get_configuration("older").etag == made["older"].etag
    errors = [json.loads(line) for line in (tmp_path / "importErrors.log").read_text().splitlines()]
    assert [(each["id"], each["errorCode"]) for each in errors] == [
        ("older", "PreconditionFailed"),
        ("odd", "ArgumentInvalid"),
    ]

    (tmp_path / "plans.txt").unlink()
    (tmp_path / "devices.txt").write_text(json.dumps({"id": "never"}))
    assert eventually(ended(manager, manager.create_import_export_job(job).job_id)).status == "failed"
    assert own_hub.request("GET", "/devices/never").status_code == 404

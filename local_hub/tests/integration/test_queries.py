# SPDX-License-Identifier: Apache-2.0
"""The query language through azure-iot-hub: projections, groups, pages, refusals."""

from __future__ import annotations

from typing import Any

import pytest
from azure.iot.hub.models import ExportImportDevice, QuerySpecification
from msrest.exceptions import HttpOperationError

RINGS = ("demo", "beta", "fleet", "fleet", "fleet")


@pytest.fixture(scope="module")
def name() -> str:
    return "query"


@pytest.fixture
def registry(hub: Any, name: str) -> Any:
    registry = hub.registry()
    devices = [
        ExportImportDevice(id=f"{name}-{n}", import_mode="create", tags={"set": name, "ring": ring, "n": n})
        for n, ring in enumerate(RINGS)
    ]
    assert registry.bulk_create_or_update_devices(devices).is_successful
    yield registry
    gone = [ExportImportDevice(id=device.id, import_mode="delete") for device in devices]
    assert registry.bulk_create_or_update_devices(gone).is_successful


def query(registry: Any, text: str, continuation: str | None = None, size: int | None = None) -> Any:
    return registry.query_iot_hub(QuerySpecification(query=text), continuation, size)


def rows(result: Any) -> list[dict[str, Any]]:
    """Projections come back as twins without any of a twin's properties (azure-iot-hub reads all rows as `Twin`)."""
    return [{**item.additional_properties, **({"deviceId": item.device_id} if item.device_id else {})} for item in
            result.items]  # fmt: skip


def test_a_projection_is_raw_rows(registry: Any) -> None:
    result = query(
        registry, "SELECT deviceId, tags.n AS number FROM devices WHERE tags.set = 'query' AND tags.n % 2 = 1"
    )
    assert (result.type, rows(result)) == ("Raw", [{"deviceId": f"query-{n}", "number": n} for n in (1, 3)])


def test_groups_are_counted(registry: Any) -> None:
    text = (
        "SELECT tags.ring AS ring, COUNT() AS number, AVG(tags.n) AS mean FROM devices "
        "WHERE tags.set = 'query' GROUP BY tags.ring"
    )
    first = query(registry, text, None, 2)
    rest = query(registry, text, first.continuation_token, 2)
    assert rows(first) + rows(rest) == [
        {"ring": "demo", "number": 1, "mean": 0},
        {"ring": "beta", "number": 1, "mean": 1},
        {"ring": "fleet", "number": 3, "mean": 3},
    ]
    assert rest.continuation_token is None


def test_top_counts_over_all_pages(registry: Any) -> None:
    text, token, found = "SELECT TOP 3 * FROM devices WHERE tags.set = 'query'", None, []
    for size in (2, 1):
        result = query(registry, text, token, 2)
        assert len(result.items) == size
        found += [twin.device_id for twin in result.items]
        token = result.continuation_token
    assert (token, found) == (None, ["query-0", "query-1", "query-2"])


@pytest.mark.parametrize(
    "text",
    ["SELECT * FROM devices WHERE", "SELECT * FROM twins", "SELECT * FROM devices WHERE shout(deviceId)", "x" * 9000],
)
def test_what_is_no_query_is_refused(registry: Any, text: str) -> None:
    with pytest.raises(HttpOperationError) as error:
        query(registry, text)
    assert error.value.response.status_code == 400
    assert error.value.response.json()["Message"].startswith("ErrorCode:ArgumentInvalid;")


@pytest.mark.parametrize("token", ["x", "bnVsbA==", "WzEsIDJd", "WyJhIiwgLTFd"])
def test_a_foreign_continuation_token_is_refused(registry: Any, token: str) -> None:
    with pytest.raises(HttpOperationError, match="Bad Request"):
        query(registry, "SELECT * FROM devices", token)

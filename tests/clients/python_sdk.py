"""Asks a `rowgate dev` as the official Python SDK of MCP does, in both eras of the protocol, and checks the answers.

Usage: python_sdk.py http://127.0.0.1:8000/mcp
"""

import asyncio
import json
import sys
import traceback
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import httpx2
from jsonschema import Draft202012Validator
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ResourceTemplateReference

HEAD_OFFICE = "00000000-0000-0000-0000-000000000000"
SEATTLE = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
NOBODY = "11111111-2222-3333-4444-555555555555"

TOOLS = {"get_multiple_table_schemas", "execute_sales_query", "get_current_utc_date"}
TABLES = "stores customers categories product_types products inventory orders order_items".split()
TEMPLATE = "schema://{schema}/{table}"
REVENUE = """select store_name, sum(total_amount) as revenue
    from retail.order_items join retail.stores using (store_id) group by store_name order by store_name"""


@dataclass
class Era:
    """One way in which the SDK speaks to a server."""

    url: str
    mode: str
    revision: str

    @asynccontextmanager
    async def connect(self, caller=HEAD_OFFICE):
        headers = {"x-rls-user-id": caller} if caller else {}
        # A proxy of the environment has no business between a client and its own machine.
        async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
            async with Client(streamable_http_client(self.url, http_client=http), mode=self.mode) as client:
                yield client

    async def answer(self, tool, caller=HEAD_OFFICE, **arguments):
        """A tool's structured content, checked against its schema and its copy as text."""
        async with self.connect(caller) as client:
            schemas = {listed.name: listed.output_schema for listed in (await client.list_tools()).tools}
            result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        Draft202012Validator(schemas[tool]).validate(result.structured_content)
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    async def refusal(self, sql, caller=HEAD_OFFICE):
        """What a caller is told whose query is refused."""
        async with self.connect(caller) as client:
            result = await client.call_tool("execute_sales_query", {"postgresql_query": sql})
        assert result.is_error and result.structured_content is None, result
        return result.content[0].text

    async def rows(self, sql, caller=HEAD_OFFICE):
        return (await self.answer("execute_sales_query", caller, postgresql_query=sql))["rows"]


async def introduces_itself(era):
    async with era.connect() as client:
        assert client.protocol_version == era.revision, client.protocol_version
        assert client.server_info.name == "rowgate", client.server_info
        assert client.instructions


async def lists_tools_that_only_read_even_to_a_missing_caller(era):
    async with era.connect(None) as client:
        tools = (await client.list_tools()).tools
    assert TOOLS <= {tool.name for tool in tools}, tools
    for tool in tools:
        assert tool.description and tool.annotations.read_only_hint, tool
        Draft202012Validator.check_schema(tool.input_schema)
        Draft202012Validator.check_schema(tool.output_schema)


async def lists_resources_and_prompts(era):
    async with era.connect() as client:
        resources = {str(resource.uri) for resource in (await client.list_resources()).resources}
        templates = [template.uri_template for template in (await client.list_resource_templates()).resource_templates]
        prompts = (await client.list_prompts()).prompts
        given = await client.get_prompt(prompts[0].name)
    assert {f"schema://retail/{table}" for table in TABLES} <= resources, resources
    assert templates == [TEMPLATE], templates
    assert given.messages[0].content.text, given


async def describes_tables_and_reads_them_as_resources(era):
    schemas = (await era.answer("get_multiple_table_schemas", table_names=[]))["schemas"]
    assert all(f"retail.{table}" in schemas for table in TABLES), schemas
    orders = (await era.answer("get_multiple_table_schemas", table_names=["retail.orders"]))["schemas"]
    async with era.connect() as client:
        contents = (await client.read_resource("schema://retail/orders")).contents
    assert contents[0].text == orders and "customer_id" in orders, (contents, orders)


async def completes_names_of_tables(era):
    async with era.connect() as client:
        template = ResourceTemplateReference(type="ref/resource", uri=TEMPLATE)
        found = await client.complete(template, {"name": "table", "value": "ord"}, {"schema": "retail"})
    assert found.completion.values == ["order_items", "orders"], found


async def tells_the_time(era):
    utc = datetime.fromisoformat((await era.answer("get_current_utc_date"))["utc"].replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - utc) < timedelta(minutes=1), utc


async def shows_each_caller_its_own_rows_of_the_same_question(era):
    head_office, seattle = await era.rows(REVENUE), await era.rows(REVENUE, SEATTLE)
    assert len(head_office) == 8 and all(revenue > 0 for _, revenue in head_office), head_office
    assert len(seattle) == 1, seattle
    assert seattle == [row for row in head_office if row[0] == "Zava Retail Seattle"], (seattle, head_office)


async def says_when_there_are_more_rows(era):
    sql = "select * from retail.orders"
    answer = await era.answer("execute_sales_query", postgresql_query=sql, max_rows=5)
    assert answer["row_count"] == len(answer["rows"]) == 5 and answer["truncated"] and answer["note"], answer


async def refuses_writes(era):
    count = "select count(*) from retail.orders"
    before = await era.rows(count)
    assert "data can not be changed" in await era.refusal("delete from orders")
    await era.refusal("with gone as (delete from retail.orders returning *) select * from gone")
    assert await era.rows(count) == before


async def refuses_an_unknown_caller_and_a_missing_one(era):
    told = await era.refusal("select 1", NOBODY)
    assert told.startswith("Unknown caller") and "register" in told, told
    told = await era.refusal("select 1", None)
    assert told.startswith("No caller") and "x-rls-user-id" in told, told


async def marks_the_place_of_an_error_with_a_caret(era):
    told = await era.refusal("select order_id,\n  sum(total_amout)\nfrom retail.order_items")
    lines = told.splitlines()
    caret = next(at for at, line in enumerate(lines) if line.strip() == "^")
    assert lines[caret - 1][lines[caret].index("^") :].startswith("total_amout"), told
    assert "line 2, column 7" in told and "total_amount" in told, told


CHECKS = [value for value in list(vars().values()) if asyncio.iscoroutinefunction(value)]


async def main(url):
    passed = failed = 0
    for era in Era(url, "auto", "2026-07-28"), Era(url, "legacy", "2025-11-25"):
        for check in CHECKS:
            what = f"{era.revision}  {check.__name__.replace('_', ' ')}"
            try:
                await check(era)
            except Exception:
                failed += 1
                print("FAILED", what, flush=True)
                traceback.print_exc()
            else:
                passed += 1
                print("ok    ", what, flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))

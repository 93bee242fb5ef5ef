"""`recsys recommend`: ask a running server and print the answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json
from serving.cli.times import parse_time

if TYPE_CHECKING:
    from recsys import v1

app = new_app()
DEGRADED: Final = {
    "stale_bundle": "the bundle knows no event of the last day; train or index again",
}


@app.command()
def recommend(  # noqa: PLR0913
    user: Annotated[
        str, typer.Argument(metavar="USER", help='The shopper; "" for one nothing is known of.')
    ],
    address: Annotated[str, typer.Option(help="Host and port.")] = "127.0.0.1:50051",
    count: Annotated[int, typer.Option("--count", "-k", min=1, max=200, help="Items.")] = 10,
    as_of: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="ISO 8601; absent: now."),
    ] = None,
    query: Annotated[str, typer.Option(help="What the shopper searches for.")] = "",
    context: Annotated[
        list[str] | None, typer.Option(metavar="ITEM", help="Item looked at; may be repeated.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Only items of it; may be repeated: any of them.")
    ] = None,
    *,
    exclude_purchased: Annotated[
        bool, typer.Option("--exclude-purchased", help="Leave out what was bought before.")
    ] = False,
    explain: Annotated[bool, typer.Option(help="Say why.")] = True,
    json: JsonOption = False,
) -> None:
    """Ask a running server for recommendations and print them.

    Example: recsys recommend 17841 --as-of 2010-11-09T00:00:00Z -k 10
    """
    from recsys import v1  # noqa: PLC0415

    request = v1.RecommendRequest(
        user_id=user,
        query=query,
        context_item_ids=context or [],
        page_size=count,
        filter=v1.ItemFilter(categories=category or [], exclude_purchased=exclude_purchased),
        as_of=as_of,
        explain=explain,
    )
    _answer(address, request, json=json)


def _answer(address: str, request: v1.RecommendRequest, *, json: bool) -> None:
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

    from serving.cli.answer_table import answer_table  # noqa: PLC0415
    from serving.client import RecommendationClient  # noqa: PLC0415

    with RecommendationClient(address) as client:
        response = client.recommend(request)
    if json:
        print_json(
            MessageToDict(
                response,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
        )
        return
    RESULTS.print(_headline(request, response), highlight=False, markup=False)
    if response.items:
        RESULTS.print(answer_table(response.items))
    for skipped in response.degraded:
        NOTES.print(f"not a full answer: {DEGRADED.get(skipped, skipped)}", style="yellow")


def _headline(request: v1.RecommendRequest, response: v1.RecommendResponse) -> str:
    found = f"{len(response.items)} items" if response.items else "No item passes the filter"
    whom = f" for {request.user_id}" if request.user_id else ""
    when = ""
    if request.HasField("as_of"):
        when = f" · as of {request.as_of.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M} UTC"
    return f"{found}{whom}{when} · bundle {response.bundle_version}"

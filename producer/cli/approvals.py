"""approvals, approve: tool calls that wait for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.calls import complete, open_client
from producer.cli.options import DEFAULT_TENANT, DEFAULT_URL, Json, RedisUrl, RunId, Tenant
from producer.cli.times import moment

if TYPE_CHECKING:
    from runtime_core.contracts.host import Approval


def approvals(
    run_id: RunId, as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL, tenant: Tenant = DEFAULT_TENANT
) -> None:
    """List the tool calls for which a run asked a person.

    Example:  runlane approvals 4f0c…
    """

    async def list_them() -> None:
        from producer.cli.output import Output, short

        async with open_client(redis_url, tenant) as client:
            found = await client.approvals(run_id)
        Output(as_json=as_json).table(
            ("call", "tool", "parameters", "asked", "expires", "decision"),
            [
                (one.call_id, one.tool_id, short(one.params), moment(one.asked_ms), moment(one.expires_ms), _said(one))
                for one in found
            ],
            [one.model_dump(mode="json") for one in found],
            empty="the run has asked for nothing",
        )

    complete(list_them())


def approve(
    run_id: RunId,
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="See: runlane approvals RUN_ID.")],
    deny: Annotated[bool, typer.Option("--deny", help="Refuse the call; the run goes on without it.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="What the model is told of a refusal.")] = "",
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Allow a tool call that waits for a person, or deny it. The first decision counts.

    Examples:

      runlane approve 4f0c… 9b1d…

      runlane approve 4f0c… 9b1d… --deny --reason "not on a Friday"
    """

    async def decide() -> None:
        from producer.cli.output import Output
        from runtime_core.contracts.host import Verdict

        verdict = Verdict.DENY if deny else Verdict.ALLOW
        async with open_client(redis_url, tenant) as client:
            await client.approve(run_id, call_id, verdict, reason=reason)
        record = {"run_id": run_id, "call_id": call_id, "decision": verdict}
        Output(as_json=as_json).record(record, "denied" if deny else "allowed")

    complete(decide())


def _said(approval: Approval) -> str:
    if approval.decision is None:
        return "waits"
    return " ".join(part for part in (approval.decision.verdict, approval.decision.reason) if part)

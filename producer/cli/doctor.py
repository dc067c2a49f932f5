"""doctor: what is wrong with the fleet, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.cli.calls import complete, open_monitor
from producer.cli.exits import CommandFailed, ExitCode
from producer.cli.options import DEFAULT_EVERY, DEFAULT_URL, Every, Json, RedisUrl, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.cli.picture import Picture
    from producer.diagnosis.finding import Finding


def doctor(
    again: Watch = False, every: Every = DEFAULT_EVERY, as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL
) -> None:
    """Examine Redis, clocks, workers, partitions, queues, config and this environment; say what to do. Takes a second.

    Asks Redis alone, so it answers when workers hang. Exit code 3 if there is an error, 0 if there are only warnings.

    Example:  runlane doctor --json | jq -r 'select(.severity == "error").fix'
    """

    async def print_findings() -> None:
        from producer.cli.picture import show, watch

        async with open_monitor(redis_url) as monitor:

            async def take() -> Picture:
                return picture_of(await monitor.examine())

            if again:
                await watch(take, every=every, as_json=as_json)
            else:
                picture = await show(take, as_json=as_json)
                if picture.record["errors"]:
                    raise CommandFailed(ExitCode.FAILED)

    complete(print_findings())


def picture_of(findings: Sequence[Finding]) -> Picture:
    from dataclasses import asdict

    from producer.cli.picture import Grid, Picture
    from producer.diagnosis.finding import Severity

    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    records = [asdict(finding) for finding in findings]
    grid = Grid(
        headings=("", "about", "what, and why it matters", "what to do"),
        rows=[
            (finding.severity.value, finding.check, f"{finding.what}\n{finding.why}", finding.fix)
            for finding in findings
        ],
        empty="nothing is wrong",
    )
    summary = [f"{errors} errors, {len(findings) - errors} warnings"] if findings else []
    return Picture(
        parts=[*summary, grid],
        record={"errors": errors, "warnings": len(findings) - errors, "findings": records},
        lines=records,
    )

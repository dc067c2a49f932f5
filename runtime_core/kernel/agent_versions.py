"""The agents of one process: the current version of their config, and earlier ones to which sessions are pinned."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from runtime_core.config.schema import AgentDefinition, AppConfig
from runtime_core.errors import AgentNotFoundError, ConfigError
from runtime_core.suggestions import did_you_mean

#: Earlier versions held in memory, the least recently used out first; what is needed again is loaded again.
_EARLIER_KEPT = 8
#: Sections that are wired into the process when it starts.
_FIXED_SECTIONS = ("runtime", "session", "events", "skills", "diagnostics")


class AgentVersions:
    def __init__(self, config: AppConfig, version: int) -> None:
        self.config = config
        self.current = version
        self._earlier: OrderedDict[int, AppConfig] = OrderedDict()

    def __contains__(self, version: int) -> bool:
        return version == self.current or version in self._earlier

    def agent(self, agent_id: str, version: int) -> AgentDefinition:
        """The agent as ``version`` has it, if that is loaded; else, and if it came later, as the current one has it.

        Raises AgentNotFoundError for one that the current version does not have (any more).
        """
        agents = self.config.agents_by_id
        if agent_id not in agents:
            raise AgentNotFoundError(
                f"there is no agent {agent_id!r}",
                hint=f"{did_you_mean(agent_id, agents)}Available agent ids: {sorted(agents)}",
                agent_id=agent_id,
            )
        if version in self._earlier:
            self._earlier.move_to_end(version)
            return self._earlier[version].agents_by_id.get(agent_id, agents[agent_id])
        return agents[agent_id]

    def all(self) -> Iterator[AgentDefinition]:
        """Of every loaded version."""
        for config in (self.config, *self._earlier.values()):
            yield from config.agents

    def add(self, config: AppConfig, version: int) -> None:
        """Load an earlier version, for sessions that are pinned to it."""
        self._earlier[version] = config
        while len(self._earlier) > _EARLIER_KEPT:
            self._earlier.popitem(last=False)

    def check(self, config: AppConfig) -> None:
        """Raise ConfigError if ``config`` cannot follow the current one while the process runs."""
        fixed = [name for name in _FIXED_SECTIONS if getattr(config, name) != getattr(self.config, name)]
        if fixed:
            raise ConfigError(
                f"the {' and '.join(fixed)} section cannot change while the process runs",
                hint="leave it as it is; to change it stop every worker, `runlane config push --offline`, start them",
            )

    def swap(self, config: AppConfig, version: int, *, keep: bool) -> tuple[list[str], list[str]]:
        """Make ``config``, which was checked, the current one; ``keep`` the old one for pinned sessions.

        Returns the ids of the agents that differ (changed, added or removed), and of those that are gone, sorted.
        """
        before, after = self.config.agents_by_id, config.agents_by_id
        if keep:
            self.add(self.config, self.current)
        self._earlier.pop(version, None)
        self.config, self.current = config, version
        changed = sorted(agent for agent in before.keys() | after.keys() if before.get(agent) != after.get(agent))
        return changed, sorted(before.keys() - after.keys())

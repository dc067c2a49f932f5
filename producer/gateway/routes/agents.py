"""Operations on agents: what the fleet's current config says of them."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from producer.gateway.operations import Answer, Call, Operation
from producer.gateway.tokens import Scope


class AgentName(BaseModel):
    id: str
    name: str


class Agents(BaseModel):
    agents: list[AgentName]


class PluginChoice(BaseModel):
    type: str | None
    impl: str | None


class LoadedPlugins(BaseModel):
    """Names of classes, if a worker holds a session of the agent."""

    memory: str | None
    pattern: str | None
    tool_executor: str | None
    context_assembler: str | None
    tools: list[str]


class Agent(BaseModel):
    id: str
    name: str
    memory: PluginChoice
    pattern: PluginChoice
    tool_executor: PluginChoice
    context_assembler: PluginChoice
    #: Ids of its enabled tools.
    tools: list[str]
    loaded_plugins: LoadedPlugins


async def list_agents(call: Call) -> Response:
    agents = Agents.model_validate({"agents": await call.gateway.agents.list()})
    return JSONResponse(agents.model_dump(mode="json"))


async def get(call: Call) -> Response:
    agent = Agent.model_validate(await call.gateway.agents.get(call.path["agent_id"]))
    return JSONResponse(agent.model_dump(mode="json"))


OPERATIONS = (
    Operation(
        method="GET",
        path="/agents",
        summary="The agents that runs can be submitted to",
        handler=list_agents,
        scope=Scope.AGENTS_READ,
        answers={HTTPStatus.OK: Answer(description="Their ids and names.", content=Agents)},
    ),
    Operation(
        method="GET",
        path="/agents/{agent_id}",
        summary="What an agent is made of",
        handler=get,
        scope=Scope.AGENTS_READ,
        answers={HTTPStatus.OK: Answer(description="The agent.", content=Agent)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
)
